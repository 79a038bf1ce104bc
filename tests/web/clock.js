// Time and chance for the tests: timers run when the test says so.

export class Clock {
  #now = 0;
  #timers = new Map();
  #number = 0;

  /** What the modules take as their environment. `random` is 1: the longest wait. */
  get environment() {
    return {
      now: () => this.#now,
      random: () => 1,
      setTimeout: (run, ms) => {
        this.#number += 1;
        this.#timers.set(this.#number, { run, at: this.#now + ms });
        return this.#number;
      },
      clearTimeout: (timer) => this.#timers.delete(timer),
    };
  }

  /** Lets this time pass, and runs the timers that are due, in their order. */
  pass(ms) {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at)[0];
      if (!due) break;
      const [number, { run, at }] = due;
      this.#timers.delete(number);
      this.#now = at;
      run();
    }
    this.#now = end;
  }
}
