// The same as eventsource.mjs, with npm eventsource-client:
// npm install eventsource-client && node eventsource-client.mjs http://127.0.0.1:5000
import { createEventSource } from "eventsource-client";

const COUNT = 3;
const server = process.argv[2] ?? "http://127.0.0.1:5000";

const response = await fetch(`${server}/events?channel=example&last=0`);
const { next } = await response.json();
const events = createEventSource({
  url: `${server}/stream?channel=example&event=step`,
  // The package keeps only the ids of events, so the program gives it the position.
  initialLastEventId: next,
});

let received = 0;
for await (const { id, event, data } of events) {
  if (event === "gap") {
    console.warn("events may be missing:", data);
    continue;
  }
  console.log(id, event, data);
  received += 1;
  if (received === COUNT) {
    break;
  }
}
events.close();
