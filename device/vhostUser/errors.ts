/** What can go wrong between a vhost-user front end and this back end. */
import { SlipwayError } from '../../src/errors.js';

/** The stream of messages is broken: there is no telling where the next message begins. The connection must end. */
export class VhostUserProtocolError extends Error {
  override readonly name = 'VhostUserProtocolError';
}

/**
 * A well-formed message asks for what can't be done. The front end is told where it asked for an answer
 * (vhost-user, VHOST_USER_PROTOCOL_F_REPLY_ACK); else the connection must end, unless the request is `harmless`.
 */
export class VhostUserRequestError extends Error {
  override readonly name = 'VhostUserRequestError';
  constructor(
    message: string,
    /** The request may be dropped in silence: neither side's state depends on it. */
    readonly harmless = false,
  ) {
    super(message);
  }
}

/** The socket can't be had. The message says which, why, and what to do. */
export class VhostUserSocketError extends SlipwayError {
  override readonly name = 'VhostUserSocketError';
  constructor(
    message: string,
    readonly path: string,
    /** The system's name of the error, such as `EADDRINUSE`. */
    readonly code: string,
  ) {
    super(message);
  }
}

/** The system's name of an error (`"ENOENT"`), or `""` if it has none. */
export function errorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

/** The words of whatever was thrown. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
