// Events without the platform's EventTarget, because what a listener throws must not get lost: it is an event too.

export class Emitter {
  #listeners = new Map();

  addEventListener(type, listener, options = {}) {
    if (!listener) return;
    const { once = false, signal } = typeof options === 'object' && options ? options : {};
    if (signal && signal.aborted) return;
    const list = this.#listeners.get(type) || [];
    if (list.some((entry) => entry.listener === listener)) return;
    this.#listeners.set(type, [...list, { listener, once }]);
    if (signal) signal.addEventListener('abort', () => this.removeEventListener(type, listener), { once: true });
  }

  removeEventListener(type, listener) {
    const list = this.#listeners.get(type) || [];
    this.#listeners.set(type, list.filter((entry) => entry.listener !== listener));
  }

  /** Calls all listeners of `event.type`; returns what they threw. */
  deliver(type, event) {
    const thrown = [];
    const call = (run) => {
      try {
        const result = run();
        // An async listener fails later, and just as much.
        if (result && typeof result.then === 'function') result.then(undefined, (error) => this.listenerFailed(error, type));
      } catch (error) {
        thrown.push(error);
      }
    };
    for (const { listener, once } of this.#listeners.get(type) || []) {
      if (once) this.removeEventListener(type, listener);
      call(() => (typeof listener === 'function' ? listener.call(this, event) : listener.handleEvent(event)));
    }
    const property = this[`on${type}`];
    if (typeof property === 'function') call(() => property.call(this, event));
    for (const error of thrown) this.listenerFailed(error, type);
  }

  listenerFailed() {}
}
