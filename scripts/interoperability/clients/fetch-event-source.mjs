// npm @microsoft/fetch-event-source, which needs a browser.
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { report, url } from "./observe.mjs";

await fetchEventSource(url, {
  openWhenHidden: true,
  onmessage: (event) => report({ type: event.event, id: event.id, data: event.data }),
});
report({ ended: true });
