// Types of client.js.

/** The version of the server that serves this module. */
export const VERSION: string;

/** An event of a channel. */
export interface HubEvent {
  type: 'event';
  channel: string;
  /** The id of the event in its channel. */
  id: string;
  /** The type under which it was published. */
  event: string;
  /** The text exactly as it was published. */
  data: string;
  /** RFC 3339. */
  time: string;
}

/** Events may be missing in a channel: load its state again. */
export interface Gap {
  type: 'gap';
  channel: string;
  reason: 'trimmed' | 'lost-tail' | 'unknown' | 'damaged' | string;
}

/** A channel has ended, and no event follows. */
export interface End {
  type: 'end';
  channel: string;
  reason?: string;
}

/** A report of the stream about itself. */
export type Notice =
  | { kind: 'live' }
  | { kind: 'stopping'; reconnect_in_ms: number }
  | { kind: 'expires'; in_ms: number };

export interface Options {
  /** Where the server is; the folder of this module if it is not given. It ends with a slash. */
  url?: string;
  /** Up to 32 channels; `sse` if they are not given. */
  channels?: string[];
  /** Only events of these types. */
  events?: string[];
  /** Start before the newest N events, at a time, or with the oldest event; otherwise now. */
  last?: number;
  since?: string;
  from?: 'oldest';
  /** Known positions per channel, as in `Subscription.positions`. They override the start. */
  positions?: Record<string, string>;
  /** A token, or a function that gets one. `rejected` says that the last one was rejected. */
  token?: string | ((why: { rejected: boolean }) => string | Promise<string>);
  /** As of `fetch`; needed if a cookie of another origin authorises the stream. */
  credentials?: RequestCredentials;
  /** `false` gives this tab a stream of its own. */
  share?: boolean;
  /** Only tabs with the same key share a stream, for example the id of the user. */
  shareKey?: string;
  onEvent?(event: HubEvent): void;
  onGap?(gap: Gap): void;
  onEnd?(end: End): void;
  onNotice?(notice: Notice): void;
  /** The subscription has ended, because the server rejects it. */
  onError?(error: Error): void;
  onState?(state: 'open' | 'waiting' | 'closed', error?: Error): void;
}

export interface Subscription {
  /** The position in each channel after the last event that the page got. Store it to resume. */
  readonly positions: Record<string, string>;
  /** Whether this tab reads the stream for all tabs. */
  readonly isLeader: boolean;
  close(): void;
}

/** The server rejected a request, and a retry does not help. */
export class RejectedError extends Error {
  readonly status: number;
  readonly code: string;
}

export function subscribe(options: Options): Subscription;

/** Compares two positions of one channel: negative if the first is earlier. */
export function comparePositions(one: string, other: string): number;

/** Escapes a value for a part of a channel's name, as the server does for `{sub}`. */
export function escapeChannelPart(value: string | number): string;
