/**
 * The thread of bulk transfers: it owns their sockets and files, so that no byte of them passes the
 * event loop of the node. `net/bulk.ts` starts it and sends the port to speak through.
 */
import { serveBulkOrders } from "./bulk_orders.ts";

addEventListener("message", (event) => {
  serveBulkOrders((event as MessageEvent<MessagePort>).data);
}, { once: true });
