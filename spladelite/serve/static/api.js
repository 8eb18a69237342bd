// The JSON API. The token comes in the address, after the #, which is sent to no server; it is kept for this origin, so
// that reloading, and opening a document in a new tab, work.

const KEY = "spladelite-token";

export function takeToken() {
  const given = /^#token=([\w-]+)$/.exec(location.hash);
  if (given) {
    localStorage.setItem(KEY, given[1]);
    history.replaceState(null, "", "#/search");
  }
}

export class ApiError extends Error {
  constructor(kind, message) {
    super(message);
    this.kind = kind;
  }
}

async function ask(path, parameters, options) {
  const address = new URL(`/api/${path}`, location.origin);
  for (const [name, value] of Object.entries(parameters ?? {})) address.searchParams.set(name, value);
  let response;
  try {
    response = await fetch(address, {
      ...options,
      headers: { Authorization: `Bearer ${localStorage.getItem(KEY) ?? ""}`, ...options?.headers },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("NoServer", "The server does not answer. Is `spladelite serve` still running?");
  }
  const answer = await response.json().catch(() => ({ error: "NoAnswer", message: `The server answered ${response.status}.` }));
  if (!response.ok) throw new ApiError(answer.error, answer.message);
  return answer;
}

const LONGEST = 8000; // characters of an address

/** Ask; a text that is too long for an address goes as the body of a POST. */
export const get = (path, parameters, signal) =>
  JSON.stringify(parameters ?? {}).length < LONGEST ? ask(path, parameters, { signal }) : post(path, parameters, signal);
export const remove = (path, parameters) => ask(path, parameters, { method: "DELETE" });
export const post = (path, body, signal) =>
  ask(path, null, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal });
export const upload = (path, parameters, file) => ask(path, parameters, { method: "POST", body: file });

/** Runs only the latest of its tasks: a new one aborts the one before, whose answer is then dropped. */
export class Latest {
  #controller = null;

  async run(task) {
    this.stop();
    const controller = new AbortController();
    this.#controller = controller;
    try {
      const answer = await task(controller.signal);
      return controller.signal.aborted ? null : answer;
    } catch (error) {
      if (controller.signal.aborted) return null;
      throw error;
    }
  }

  stop() {
    this.#controller?.abort();
  }
}

/** Resolves after some milliseconds, unless aborted. */
export function pause(length, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, length);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
