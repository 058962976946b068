/**
 * The parser of sse-fast.js held against the HTML standard (9.2.6), case by case.
 *
 * Owns: the table. Each case is parsed whole, byte by byte, and cut in two at every place, with the same result: a
 * network cuts anywhere, in the middle of a CRLF and of a letter included.
 */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Parser } from "../../python/sse_fast/static/sse-fast.js";

/** [what it shows, the bytes, events as [event, data, id, lastEventId], what `retry` was told] */
const CASES = [
  ["LF ends lines", "data: a\n\n", [["message", "a", null, ""]]],
  ["CR ends lines", "data: a\r\rdata: b\r\r", [["message", "a", null, ""], ["message", "b", null, ""]]],
  ["CRLF ends lines", "data: a\r\n\r\n", [["message", "a", null, ""]]],
  ["all three, mixed", "data: a\r\ndata: b\ndata: c\rdata: d\n\r", [["message", "a\nb\nc\nd", null, ""]]],
  ["CR LF CR is two lines", "data: a\r\n\rdata: b\n\n", [["message", "a", null, ""], ["message", "b", null, ""]]],
  ["LF CR is two lines", "data: a\n\rdata: b\n\n", [["message", "a", null, ""], ["message", "b", null, ""]]],
  ["a byte order mark is left out once", "\ufeffdata: a\n\n", [["message", "a", null, ""]]],
  ["a second one is part of the name", "\ufeff\ufeffdata: a\n\ndata: b\n\n", [["message", "b", null, ""]]],
  ["a byte order mark in data stays", "data: \ufeffa\n\n", [["message", "\ufeffa", null, ""]]],
  ["letters of several bytes", "data: ä€😀\n\n", [["message", "ä€😀", null, ""]]],
  ["other ends of lines are letters", "data: a\u2028b\u0085c\u000bd\n\n", [["message", "a\u2028b\u0085c\u000bd", null, ""]]],
  ["one space after the colon is left out", "data:  a\ndata:b\n\n", [["message", " a\nb", null, ""]]],
  ["a tab is not a space", "data:\ta\n\n", [["message", "\ta", null, ""]]],
  ["colons in the value", "data: a:b: c\n\n", [["message", "a:b: c", null, ""]]],
  ["a field without a colon is empty", "data\n\n", [["message", "", null, ""]]],
  ["two of them are a line end", "data\ndata\n\n", [["message", "\n", null, ""]]],
  ["an empty value", "data:\n\n", [["message", "", null, ""]]],
  ["comments", ": heartbeat\ndata: a\n:\n: b\n\n", [["message", "a", null, ""]]],
  ["a comment between blank lines is no event", ": a\n\n: b\n\n", []],
  ["unknown fields and names in capitals", "Data: x\n data: x\ndata : x\nfoo\ndata: a\n\n", [["message", "a", null, ""]]],
  ["a name", "event: tick\ndata: a\n\ndata: b\n\n", [["tick", "a", null, ""], ["message", "b", null, ""]]],
  ["an empty name is message", "event: tick\nevent\ndata: a\n\n", [["message", "a", null, ""]]],
  ["without data there is no event, and no name", "event: tick\n\ndata: a\n\n", [["message", "a", null, ""]]],
  ["an id goes on", "id: 1\ndata: a\n\ndata: b\n\n", [["message", "a", "1", "1"], ["message", "b", null, "1"]]],
  ["an id without data goes on", "id: 1\n\ndata: b\n\n", [["message", "b", null, "1"]]],
  ["an empty id ends it", "id: 1\ndata: a\n\nid\ndata: b\n\n", [["message", "a", "1", "1"], ["message", "b", null, ""]]],
  ["an id with NUL is no id", "id: 1\nid: 2\0\ndata: a\n\n", [["message", "a", "1", "1"]]],
  ["the last id counts", "id: 1\nid: 2\ndata: a\n\n", [["message", "a", "2", "2"]]],
  ["NUL in data stays", "data: a\0b\n\n", [["message", "a\0b", null, ""]]],
  ["digits are a retry", "retry: 1500\ndata: a\n\n", [["message", "a", null, ""]], [1500]],
  ["a retry needs no event", "retry:5\n\n", [], [5]],
  ["anything else is no retry", "retry: 1.5\nretry: -1\nretry: 1e3\nretry:  7\nretry: 8 \nretry\nretry: ٣\n\n", [], []],
  ["what has no blank line yet is no event", "data: a\n\ndata: b\n", [["message", "a", null, ""]]],
  ["nor what has no line end", "data: a\n\ndata: b", [["message", "a", null, ""]]],
  ["several blank lines", "\n\ndata: a\n\n\n\ndata: b\n\n", [["message", "a", null, ""], ["message", "b", null, ""]]],
];

function parse(...pieces) {
  const events = [];
  const retries = [];
  const parser = new Parser({
    event: ({ event, data, id, lastEventId }) => events.push([event, data, id, lastEventId]),
    retry: (milliseconds) => retries.push(milliseconds),
  });
  for (const piece of pieces) parser.push(piece);
  return { events, retries };
}

for (const [what, text, events, retries = []] of CASES) {
  test(what, () => {
    const bytes = new TextEncoder().encode(text);
    const expected = { events, retries };
    assert.deepEqual(parse(bytes), expected, "whole");
    assert.deepEqual(parse(...Array.from(bytes, (byte) => Uint8Array.of(byte))), expected, "byte by byte");
    for (let place = 0; place <= bytes.length; place += 1) {
      const cut = parse(bytes.subarray(0, place), new Uint8Array(), bytes.subarray(place));
      assert.deepEqual(cut, expected, `cut at ${place}`);
    }
  });
}

test("bytes that are not UTF-8 become replacement characters", () => {
  const bytes = Uint8Array.from([...new TextEncoder().encode("data: "), 0xff, 0x61, 0xe2, 0x82, 0x0a, 0x0a]);
  assert.deepEqual(parse(bytes).events, [["message", "\ufffda\ufffd", null, ""]]);
});

test("a CR dispatches at once, without waiting for what follows", () => {
  assert.deepEqual(parse(new TextEncoder().encode("data: a\r\r")).events, [["message", "a", null, ""]]);
});

test("an event of a megabyte in small pieces", () => {
  const data = "x".repeat(1 << 20);
  const bytes = new TextEncoder().encode(`data: ${data}\n\n`);
  const pieces = Array.from({ length: Math.ceil(bytes.length / 16384) }, (_, i) => bytes.subarray(i * 16384, (i + 1) * 16384));
  assert.deepEqual(parse(...pieces).events, [["message", data, null, ""]]);
});
