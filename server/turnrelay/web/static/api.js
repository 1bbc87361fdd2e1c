// Requests to the relay, and the errors that its API answers with.

export class ApiError extends Error {
  constructor(status, error, message) {
    super(message);
    this.status = status;
    this.error = error;
  }
}

// The JSON of an answer, null where there is none; ApiError with the relay's own words for a refusal.
export async function ask(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, "unreachable", "The relay does not answer. Does it run?");
  }
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (!response.ok) {
    throw new ApiError(
      response.status,
      answer?.error ?? "unknown",
      answer?.message ?? `The relay answered ${response.status}.`,
    );
  }
  return answer;
}
