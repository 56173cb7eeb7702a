// npm launchdarkly-eventsource.
import launchdarkly from "launchdarkly-eventsource";
import { observe } from "./observe.mjs";

observe((url) => new launchdarkly.EventSource(url));
