// The EventSource of a browser.
import { observe } from "./observe.mjs";

observe((url) => new EventSource(url));
