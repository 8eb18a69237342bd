/** What this module throws: a message for people that says what was expected and what to do. */
export class SpladeLiteError extends Error {
  name = "SpladeLiteError";
}
