// Follows an answer whose events are JSON, as the SDKs of language models do. `profile=data` sends no
// other data, and `[DONE]` at the end of a complete answer.
//
// The parts and the position are kept in the session of the page, so that a reload continues.

export function followAnswer({ hub, channel, onPart, onEnd }) {
  const key = `answer ${hub} ${channel}`;
  const state = JSON.parse(sessionStorage.getItem(key) ?? '{"parts":[],"id":null}');
  state.parts.forEach((part) => onPart(part));

  const url = new URL("/stream", hub);
  url.search = new URLSearchParams({ channel, profile: "data" });
  url.searchParams.set(...(state.id ? ["last_event_id", state.id] : ["from", "oldest"]));
  const source = new EventSource(url);

  source.onmessage = (event) => {
    if (event.data === "[DONE]") {
      source.close();
      onEnd("completed");
      return;
    }
    const part = JSON.parse(event.data);
    state.parts.push(part);
    state.id = event.lastEventId;
    sessionStorage.setItem(key, JSON.stringify(state));
    onPart(part);
  };
  // After any end the server answers a reconnect with 204, and the browser gives up. It also does when
  // the page is left, so the server is asked whether the answer has ended.
  source.onerror = async () => {
    if (source.readyState !== EventSource.CLOSED) return;
    url.searchParams.set("if", "open");
    const response = await fetch(url).catch(() => null);
    await response?.body?.cancel();
    if (response && response.status !== 200) onEnd("aborted");
  };
  return source;
}
