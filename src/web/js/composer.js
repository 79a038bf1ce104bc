// The field in which the user writes. Enter sends, Shift and Enter begin a new line.

import { byId } from "./dom.js";

/** Control characters besides tab and line feed: the server passes them on, and nobody can read them. */
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f]/g;

export class Composer {
  #text = byId("text");
  #onDraft;

  /**
   * `draft`: what the user had written before. `onDraft(text)`: the user has changed it. `onSend(text)`: the user sends
   * a text.
   */
  constructor(draft, onDraft, onSend) {
    const text = this.#text;
    this.#onDraft = onDraft;
    text.value = draft;
    this.#fit();
    text.oninput = () => this.#changed();
    text.onkeydown = (event) => {
      // While an input method composes a character, Enter ends the character.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      byId("composer").requestSubmit();
    };
    byId("composer").onsubmit = (event) => {
      event.preventDefault();
      const written = text.value.replace(CONTROL, "").trim();
      if (written === "") return;
      text.value = "";
      this.#changed();
      onSend(written);
      // The button may have taken the focus. On a phone, the keyboard would close.
      this.focus();
    };
  }

  focus() {
    this.#text.focus();
  }

  /** Puts a text back into the field, before what the user has written meanwhile. */
  edit(text) {
    this.#text.value = [text, this.#text.value].filter(Boolean).join("\n");
    this.#changed();
    this.focus();
  }

  #changed() {
    this.#fit();
    this.#onDraft(this.#text.value);
  }

  /** As high as the text; the style sheet has the maximum. */
  #fit() {
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight + 2}px`;
  }
}
