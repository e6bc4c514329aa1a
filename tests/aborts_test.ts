import { ensureSetup } from "../ffi/setup.ts";
import { abortRequests } from "./verify/aborts.ts";

/** The short form of `deno task verify aborts`: requests before the first look, and after it. */
const WARM_REQUESTS = 60;
const REQUESTS = 40;

Deno.test("40 answers of a real engine, most of them left at random, leave nothing behind", async () => {
  await ensureSetup();
  await abortRequests(1, REQUESTS, WARM_REQUESTS);
});
