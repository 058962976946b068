// What an EventSource reports, as [name, data, id] of each event: for the browser's own, and for those from npm.

// Ends at the event whose data has `last` in it, or, where that is null, once the source has closed by itself. Some go on
// to report what came in the same piece after they were closed; that is for programs to know, and not recorded.
globalThis.record = (source, names, last) =>
  new Promise((resolve) => {
    const seen = [];
    let over = false;
    const finish = () => {
      over = true;
      source.close();
      resolve(seen);
    };
    for (const name of names) {
      source.addEventListener(name, ({ type, data, lastEventId }) => {
        if (over) return;
        seen.push([type, data, lastEventId]);
        if (last !== null && data.includes(last)) finish();
      });
    }
    source.onerror = () => {
      if (source.readyState === 2) finish();
    };
  });

// The same of fetch-event-source, which may POST; it does not come back by itself after a proper end.
globalThis.recordFetched = async (fetchEventSource, url, body, last) => {
  const seen = [];
  const controller = new AbortController();
  await fetchEventSource(url, {
    ...(body === null ? {} : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }),
    signal: controller.signal,
    openWhenHidden: true,
    onmessage: ({ event, data, id }) => {
      if (controller.signal.aborted) return;
      seen.push([event || "message", data, id]);
      if (last !== null && data.includes(last)) controller.abort();
    },
    onerror: (error) => {
      throw error;
    },
  });
  return seen;
};

// A package of CommonJS files, given as {"./name": source}, in a page.
globalThis.required = (sources, name) => {
  const loaded = {};
  const require = (wanted) => {
    if (!(wanted in loaded)) {
      loaded[wanted] = {};
      new Function("exports", "require", sources[wanted])(loaded[wanted], require);
    }
    return loaded[wanted];
  };
  return require(name);
};
