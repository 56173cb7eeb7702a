// npm event-source-polyfill, which needs a browser.
import "event-source-polyfill";
import { observe } from "./observe.mjs";

observe((url) => new globalThis.EventSourcePolyfill(url));
