// npm eventsource-client.
import { createEventSource } from "eventsource-client";
import { report, url } from "./observe.mjs";

createEventSource({
  url,
  onMessage: (event) => report({ type: event.event ?? "message", id: event.id, data: event.data }),
});
