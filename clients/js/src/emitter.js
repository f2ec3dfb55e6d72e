// Events without the platform's EventTarget, because what a listener throws must not get lost: it is an event too.

export class Emitter {
  #listeners = new Map();

  addEventListener(type, listener) {
    this.#listeners.set(type, (this.#listeners.get(type) || new Set()).add(listener));
  }

  removeEventListener(type, listener) {
    this.#listeners.get(type)?.delete(listener);
  }

  /** Calls all listeners of a type; what one throws goes to `listenerFailed`. */
  deliver(type, event) {
    for (const listener of [...(this.#listeners.get(type) || [])]) this.call(listener, event, type);
  }

  call(listener, event, type) {
    const fail = (error) => {
      // In the console as ever, and an event as well.
      globalThis.reportError?.(error);
      this.listenerFailed(error, type);
    };
    try {
      // An async listener fails later, and just as much.
      listener.call(this, event)?.then?.(null, fail);
    } catch (error) {
      fail(error);
    }
  }
}
