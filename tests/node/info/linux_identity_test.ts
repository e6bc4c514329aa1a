import { equal } from "node:assert/strict";
import {
  chipOf,
  firmwareName,
  nvidiaModelOf,
  processorOf,
  systemNameOf,
} from "../../../node/info/linux_identity.ts";
import { golden } from "../../support/fake_machine.ts";

Deno.test("processor, GPU and system are read of the kernel's files", async () => {
  equal(processorOf(await golden("linux_cpuinfo.txt")), "Intel(R) Xeon(R) Processor");
  equal(nvidiaModelOf(await golden("nvidia_information.txt")), "NVIDIA H200");
  equal(systemNameOf(await golden("linux_os_release.txt")), "Debian GNU/Linux 12 (bookworm)");
});

Deno.test("what a file does not say, or is not there to say, is not known", () => {
  equal(processorOf("processor\t: 0\nCPU implementer\t: 0x41\n"), undefined);
  equal(processorOf(undefined), undefined);
  equal(nvidiaModelOf(undefined), undefined);
  equal(systemNameOf("NAME=x\n"), undefined);
  equal(systemNameOf(`PRETTY_NAME=""\n`), undefined);
  equal(systemNameOf(undefined), undefined);
});

Deno.test("names may be quoted or bare", () => {
  equal(systemNameOf("PRETTY_NAME=Alpine\n"), "Alpine");
  equal(systemNameOf("PRETTY_NAME='Arch Linux'\n"), "Arch Linux");
  equal(systemNameOf(`PRETTY_NAME="The \\"One\\""\n`), 'The "One"');
});

Deno.test("the blanks of makers are no names of machines", () => {
  equal(firmwareName("ProLiant DL380 Gen11\n"), "ProLiant DL380 Gen11");
  equal(firmwareName("Raspberry Pi 5 Model B Rev 1.0\0"), "Raspberry Pi 5 Model B Rev 1.0");
  for (const blank of ["", "\n", "To Be Filled By O.E.M.\n", "System Product Name\n", undefined]) {
    equal(firmwareName(blank), undefined, blank);
  }
});

Deno.test("a chip is the processor with its GPUs, equal ones counted", () => {
  equal(chipOf("CPU", []), "CPU");
  equal(chipOf("CPU", ["H200"]), "CPU + H200");
  equal(chipOf("CPU", ["H200", "L4", "H200"]), "CPU + 2 × H200 + L4");
});
