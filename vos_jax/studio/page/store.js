// Frames and masks that the page has asked for, and masks on their way to the server.
import * as api from './api.js';

class Cache {
  constructor(load, limit, drop = () => {}) {
    Object.assign(this, { load, limit, drop });
    this.entries = new Map();
  }

  get(number) {
    let entry = this.entries.get(number);
    if (entry) this.entries.delete(number);
    else {
      entry = this.load(number);
      entry.catch(() => this.entries.get(number) === entry && this.entries.delete(number));
    }
    this.entries.set(number, entry);  // the newest last
    while (this.entries.size > this.limit) this.forget(this.entries.keys().next().value);
    return entry;
  }

  set(number, value) { this.entries.set(number, Promise.resolve(value)); }

  forget(number) {
    this.entries.get(number)?.then(this.drop, () => {});
    this.entries.delete(number);
  }

  clear() { [...this.entries.keys()].forEach((number) => this.forget(number)); }
}

export class Store {
  // `onSaving(count, error)` tells how many changed masks are not with the server yet; `onStale(number, labels)`
  // gets a mask that was painted on one that is no longer there; `ready()` resolves when masks may be sent.
  constructor(onSaving, onStale, ready) {
    Object.assign(this, { onSaving, onStale, ready });
    this.waiting = new Map();
    this.sending = null;
    this.clear(0);
  }

  // Forgets everything; `pixels` of a frame decide how much is kept.
  clear(pixels) {
    this.pictures?.clear();
    const room = Math.max(12, Math.min(200, Math.floor(2e8 / Math.max(1, 4 * pixels))));
    this.pictures = new Cache(api.picture, room, (bitmap) => bitmap?.close?.());
    this.masks = new Cache(api.mask, 4 * room);
  }

  // Takes a changed mask, { labels, version }; the newest of each frame is sent, one at a time.
  change(number, held) {
    this.masks.set(number, held);
    this.waiting.set(number, held);
    this.sending ??= this.send();
    this.onSaving(this.waiting.size);
  }

  isChanged(number) { return this.waiting.has(number); }

  // Resolves once the server has all masks.
  async settle() { await this.sending; }

  async send() {
    while (this.waiting.size) {
      await this.ready();
      const [number, held] = this.waiting.entries().next().value, { labels } = held;
      try {
        held.version = await api.putMask(number, held);
        if (held.labels === labels && this.waiting.get(number) === held) this.waiting.delete(number);
        this.onSaving(this.waiting.size);
      } catch (error) {
        if (error.status === 409) {
          this.waiting.delete(number);
          this.masks.forget(number);
          this.onSaving(this.waiting.size);
          this.onStale(number, held.labels);
          continue;
        }
        this.onSaving(this.waiting.size, error);
        if (!(error instanceof api.Lost) && error.status !== 507) {  // it will not be taken later either
          this.waiting.delete(number);
          this.masks.forget(number);
        }
        await new Promise((done) => setTimeout(done, 2000));
      }
    }
    this.sending = null;
  }
}
