// The server of the studio, at addresses relative to the page (its address holds the token).

export class Lost extends Error {
  constructor(message = 'The studio does not answer. Start it again; everything that was done is kept.') { super(message); }
}

async function request(method, path, body, headers) {
  let response;
  try {
    response = await fetch(`api/${path}`, { method, body, headers });
  } catch {
    throw new Lost();
  }
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error || message;
  } catch { /* not from the studio: the status says all */ }
  const error = new Error(message);
  error.status = response.status;
  throw error;
}

export const get = async (path) => (await request('GET', path)).json();

// `seen` is the version of what is changed: where it is no longer that, the server refuses (409).
export const send = async (method, path, values = {}, seen = null) => {
  const headers = { 'Content-Type': 'application/json', ...(seen && { 'If-Match': seen }) };
  return (await request(method, path, JSON.stringify(values), headers)).json();
};

const bytes = async (response) => new Uint8Array(await response.arrayBuffer());

// Labels of a frame, Uint8Array with an id for each pixel or null where it has none, and their version.
export async function mask(number) {
  const response = await request('GET', `masks/${number}`);
  return { labels: response.status === 204 ? null : await bytes(response), version: response.headers.get('ETag') };
}

export const putMask = async (number, { labels, version }) =>
  (await (await request('PUT', `masks/${number}`, labels, { 'If-Match': version })).json()).version;

// Uint8Array with a 1 for each pixel of the object that a box is around, or scribbles are on.
export const outline = async (values) =>
  bytes(await request('POST', 'outline', JSON.stringify(values), { 'Content-Type': 'application/json' }));

export async function picture(number) {
  return createImageBitmap(await (await request('GET', `frames/${number}`)).blob());
}

// Sends a file; fetch does not tell how far it is.
export function upload(file, onProgress) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open('PUT', `api/upload/${encodeURIComponent(file.name)}`);
    sending.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    sending.onerror = () => reject(new Lost('The upload was cut off; try again.'));
    sending.onload = () => {
      let answer = {};
      try {
        answer = JSON.parse(sending.responseText);
      } catch { /* an error page */ }
      if (sending.status === 200) resolve(answer.video);
      else reject(new Error(answer.error || `upload refused (${sending.status})`));
    };
    sending.send(file);
  });
}
