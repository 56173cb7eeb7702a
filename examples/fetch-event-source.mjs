// Subscribes a page with npm @microsoft/fetch-event-source, and reconnects without loss.
import { fetchEventSource } from "@microsoft/fetch-event-source";

/**
 * Calls `onEvent` with each event of the type "step", and with gaps, until `signal` is aborted.
 * An event has `id`, `event` and `data`.
 */
export function subscribe(server, onEvent, signal) {
  return fetchEventSource(`${server}/stream?channel=example&event=step`, {
    signal,
    onmessage(event) {
      // A block that has only a position arrives as an event without a type. The package keeps its id.
      if (event.event !== "") {
        onEvent(event);
      }
    },
    // Without this, the package takes the end of a stream for the end of the subscription.
    onclose() {
      throw new Error("the stream ended");
    },
  });
}
