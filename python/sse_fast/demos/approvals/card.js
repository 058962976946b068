/**
 * A card: the head of one queue, its choices, and how many more wait.
 *
 * Law: an answer names the question that was shown when it was given. A key that was meant for the last question never
 * answers the next one: keys rest for a moment after the head has changed.
 * Must not know: where states come from, nor where answers go.
 */

import { connectionIn, textElement } from "/demos/site.js";

const REST = 400; // Milliseconds; two presses of one finger are closer than this.
const LABELS = { approve: "Approve", deny: "Deny" };
const KEYS = { approve: "A", deny: "D" };

export class Card {
  /** The question that is shown, or null. */
  pending = null;
  /** How many wait, this one included; null before the first state. */
  count = null;

  #part;
  #answer;
  #announce;
  #changedAt = 0;

  /** `answer(question, text)` gives an answer and may fail; `announce(text)` is heard by screen readers. */
  constructor(section, { answer, announce }) {
    this.#part = Object.fromEntries([...section.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
    this.#answer = answer;
    this.#announce = announce;
    this.onState = connectionIn(this.#part.connection);
    this.#part.own?.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#part.answer.value.trim()) this.#give(this.#part.answer.value);
    });
  }

  /** Another session: nothing is known of it yet. */
  clear() {
    this.pending = this.count = null;
    this.#show();
    this.note("");
  }

  /** What the server says: the head, or null, and the count. */
  show({ pending, pending_count: count }) {
    const first = this.count === null;
    const changed = first || pending?.id !== this.pending?.id;
    this.pending = pending;
    this.count = count;
    if (changed) {
      this.#changedAt = performance.now();
      this.#show();
      if (pending || !first) this.#announce(pending ? `${pending.text} ${count} waiting.` : "Nothing more waits here.");
    }
    this.#part.count.textContent = count ? `${count} waiting` : "";
    this.#part.count.dataset.kind = count ? "warn" : "";
  }

  note(text) {
    this.#part.note.textContent = text;
  }

  /** Whether a key answered the question that is shown. */
  press(key) {
    const choice = this.pending?.choices.find((name, index) => keyOf(name, index) === key.toUpperCase());
    if (!choice || performance.now() - this.#changedAt < REST) return false;
    this.#give(choice);
    return true;
  }

  #show() {
    const { question, empty, text, detail, choices, answer, error } = this.#part;
    const hadFocus = question.contains(document.activeElement);
    question.hidden = !this.pending;
    empty.hidden = this.pending !== null || this.count === null;
    error.textContent = "";
    if (answer) answer.value = "";
    text.textContent = this.pending?.text ?? "";
    detail.textContent = this.pending?.detail ?? "";
    choices.replaceChildren(...(this.pending?.choices ?? []).map((name, index) => this.#button(name, index)));
    // The button that had the focus is gone; the next question is where its reader goes on.
    if (hadFocus && this.pending) text.focus({ preventScroll: true });
  }

  #button(name, index) {
    const button = textElement("button", LABELS[name] ?? name, { approve: "primary", deny: "deny" }[name] ?? "");
    button.type = "button";
    button.append(textElement("kbd", keyOf(name, index)));
    button.addEventListener("click", () => this.#give(name));
    return button;
  }

  async #give(text) {
    const question = this.pending;
    const controls = this.#part.question.querySelectorAll("button, input");
    for (const control of controls) control.disabled = true;
    try {
      await this.#answer(question, text);
    } catch (error) {
      if (this.pending === question) this.#part.error.textContent = error.message;
    } finally {
      for (const control of controls) control.disabled = false;
    }
  }
}

const keyOf = (name, index) => KEYS[name] ?? String(index + 1);
