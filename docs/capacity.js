// The calculator of guides/capacity.md.
//
// Owns: the arithmetic from a load to cores, memory and network, and the page's form. Must not know: the measured numbers.
// They stand in the page's table, as elements with `data-constant`, so that the table and the calculator say the same.
// A plain script without modules: the site can be read from a folder, where browsers load no modules.
"use strict";

(() => {
  const SECOND = 1e6; // Microseconds.
  const TCP = 66; // Bytes: the heads of Ethernet, IP and TCP with its time stamps, once for each packet.
  const PACKET = 1448; // Bytes that one of them carries.
  const CHUNK = 8; // Bytes of HTTP around an event.

  /** What a load takes of every process, of Redis and of the network. All inputs are numbers; pure. */
  function plan(load, cost) {
    const { readers, streams, events, bytes, history, heartbeat, processes } = load;
    const shared = processes > 1;
    const readersOfOne = Math.min(readers, Math.max(1, load.audience || readers / Math.max(1, streams)));
    const deliveries = events * readersOfOne;
    const here = readers / processes;
    const sent = bytes + cost.eventBytes;
    const wire = sent + CHUNK + TCP * Math.ceil(sent / PACKET);
    // A stream is copied where somebody reads it: with few readers of each, to few of the processes.
    const copies = shared ? Math.min(processes, readersOfOne) : 1;
    const perProcess = copies / processes;
    const heartbeats = (here / heartbeat) * Math.max(0, 1 - (deliveries / Math.max(1, readers)) * heartbeat);
    const taken = shared ? cost.copyMicroseconds : cost.publishMicroseconds;
    const work =
      (deliveries / processes) * cost.deliveryMicroseconds +
      events * perProcess * taken +
      heartbeats * cost.heartbeatMicroseconds;
    const stream = (shared ? cost.copyStreamBytes : cost.streamBytes) + history * (bytes + cost.storedBytes);
    return {
      deliveries,
      cores: work / SECOND,
      memory: cost.processBytes + here * cost.readerBytes + streams * perProcess * stream,
      kernel: here * cost.socketBytes,
      network: (deliveries / processes) * wire * 8,
      files: here + 64,
      storm: (here * cost.acceptMicroseconds) / SECOND,
      cut: events > 0 ? history / (events / Math.max(1, streams)) : Infinity,
      redisCores: shared ? (events * cost.redisMicroseconds) / SECOND : 0,
      redisMemory: shared ? streams * (cost.redisStreamBytes + history * (bytes + cost.redisStoredBytes)) : 0,
      redisNetwork: shared ? events * (1 + copies) * sent * 8 : 0,
    };
  }

  const number = (value, digits = 3) =>
    Number.isFinite(value) ? Number(value.toPrecision(digits)).toLocaleString("en", { maximumFractionDigits: 3 }) : "∞";

  /** A number with the unit that leaves it readable: `steps` are [size, name], the greatest first. */
  function scaled(value, steps) {
    const [size, name] = steps.find(([least]) => value >= least) ?? steps[steps.length - 1];
    return `${number(value / size)} ${name}`;
  }
  const size = (value) => scaled(value, [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]]);
  const rate = (value) => scaled(value, [[1e9, "Gbit/s"], [1e6, "Mbit/s"], [1e3, "kbit/s"], [1, "bit/s"]]);
  const time = (value) =>
    Number.isFinite(value) ? scaled(value, [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"]]) : "∞";

  /** The texts of the form's outputs, by name. */
  function texts(found) {
    return {
      deliveries: `${number(found.deliveries)} /s`,
      cores: `${number(found.cores)} cores`,
      memory: size(found.memory),
      kernel: size(found.kernel),
      network: rate(found.network),
      files: number(Math.ceil(found.files), 6),
      storm: time(found.storm),
      cut: time(found.cut),
      redisCores: found.redisMemory ? `${number(found.redisCores)} cores` : "no Redis",
      redisMemory: found.redisMemory ? size(found.redisMemory) : "no Redis",
      redisNetwork: found.redisMemory ? rate(found.redisNetwork) : "no Redis",
    };
  }

  /** What is tight, in words; nothing where all is well. */
  function advice(found, load) {
    const said = [];
    if (found.cores > 0.7) said.push("More than 70 % of one core in each process: give it cores, or take more processes.");
    if (found.redisCores > 0.6) said.push("Redis works on one core, and more than 60 % of it is in use: batch events, or part them between several Redis.");
    if (found.files > 60000) said.push("More than 60,000 open files in a process: raise LimitNOFILE, or take more processes.");
    if (load.readers > 28000) said.push("A proxy in front has 28,000 ports for each address of an engine: give engines several addresses, or take more of them.");
    if (found.cut < 30) said.push("History covers less than 30 s of a lost connection: readers that come back later are told a gap.");
    return said;
  }

  function constants(page) {
    const found = [...page.querySelectorAll("[data-constant]")];
    return Object.fromEntries(found.map((it) => [it.dataset.constant, Number(it.textContent.replaceAll(",", ""))]));
  }

  function start(form) {
    const cost = constants(document);
    const fields = [...form.querySelectorAll("input")];
    const show = () => {
      const wrong = fields.filter((field) => !field.checkValidity());
      for (const field of fields) field.setAttribute("aria-invalid", String(wrong.includes(field)));
      form.querySelector("[data-wrong]").textContent = wrong.map((it) => `${it.labels[0].textContent.trim()}: ${it.validationMessage}`).join(" ");
      if (wrong.length) return;
      const load = Object.fromEntries(fields.map((field) => [field.name, Number(field.value)]));
      const found = plan(load, cost);
      for (const [name, text] of Object.entries(texts(found))) form.querySelector(`output[name=${name}]`).value = text;
      const list = form.querySelector("[data-advice]");
      list.replaceChildren(...advice(found, load).map((text) => Object.assign(document.createElement("li"), { textContent: text })));
      // So that a plan can be sent to somebody: the address has it.
      history.replaceState(null, "", `#plan?${new URLSearchParams(fields.map((it) => [it.name, it.value]))}`);
    };
    const [place, given] = location.hash.split("?");
    if (place === "#plan") {
      for (const [name, value] of new URLSearchParams(given)) {
        const field = fields.find((it) => it.name === name);
        if (field) field.value = value;
      }
    }
    form.addEventListener("input", show);
    form.addEventListener("submit", (event) => event.preventDefault());
    show();
  }

  const form = document.getElementById("plan");
  if (form) start(form);
})();
