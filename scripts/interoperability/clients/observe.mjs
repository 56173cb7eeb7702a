// Reports what a client shows to a program: in Node on stdout, in a browser to the server of the page.

const page = globalThis.location && new URL(globalThis.location);

/** The argument of the program: the URL of the stream, or of the hub. In a page it is a parameter. */
export const url = page ? page.searchParams.get("url") : globalThis.process.argv[2];

let last = Promise.resolve();

export function report(observation) {
  const line = JSON.stringify(observation);
  if (!page) {
    console.log(line);
    return;
  }
  // One after the other, so that they keep their order.
  last = last.then(() => fetch("/report", { method: "POST", body: line }));
}

/** Reports the events of an EventSource, and that it gives up. */
export function observe(open) {
  const source = open(url);
  const show = (event) => report({ type: event.type, id: event.lastEventId, data: event.data });
  for (const type of ["message", "step", "gap"]) {
    source.addEventListener(type, show);
  }
  source.addEventListener("error", () => {
    if (source.readyState === 2) {
      report({ type: "closed", data: "closed" });
    }
  });
}
