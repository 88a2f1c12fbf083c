// What the page asks of its server. Every error is an Error whose message is for people.

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server cannot be reached: is it still running?");
  }
  if (response.ok) return response;
  const text = await response.text();
  let message = `the server answered ${response.status}`;
  try {
    message = JSON.parse(text).error ?? message;
  } catch { /* a proxy's page */ }
  throw new Refused(message, response.status);
}

async function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  return call(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

export async function model() {
  return (await call("/v1/model")).json();
}

export async function upload(file) {
  // The server tells the format by the content; the type only says that it is a file.
  const headers = { "Content-Type": "application/octet-stream" };
  return (await call("/v1/images", { method: "POST", headers, body: file })).json();
}

export async function ask(task, body, signal) {
  return (await post(`/v1/${task}`, body, signal)).json();
}

export async function picture(body, signal) {
  return (await post("/v1/region", body, signal)).blob();
}

export async function labels(body) {
  return (await post("/v1/labels", body)).blob();
}
