// Receives three events of the type "step" with npm eventsource 4, and reconnects without loss:
// npm install eventsource && node eventsource.mjs http://127.0.0.1:5000
//
// Start it before publish.py. The package keeps only the ids of events, and the stream also sends
// its position as an id without an event. So the program asks for the position and starts there.
import { EventSource } from "eventsource";

const COUNT = 3;
const server = process.argv[2] ?? "http://127.0.0.1:5000";

const response = await fetch(`${server}/events?channel=example&last=0`);
const { next } = await response.json();
const query = new URLSearchParams({ channel: "example", event: "step", last_event_id: next });
// After the first event, a reconnect sends the header Last-Event-ID, which overrides the URL.
const events = new EventSource(`${server}/stream?${query}`);

let received = 0;
events.addEventListener("step", (event) => {
  console.log(event.lastEventId, event.type, event.data);
  received += 1;
  if (received === COUNT) {
    events.close();
  }
});
events.addEventListener("gap", (event) => console.warn("events may be missing:", event.data));
