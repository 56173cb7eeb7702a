// The recipe for npm @microsoft/fetch-event-source.
import { subscribe } from "./examples/fetch-event-source.mjs";
import { report, url } from "./observe.mjs";

subscribe(url, (event) => report({ type: event.event, id: event.id, data: event.data }));
