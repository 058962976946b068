// Reads with npm's `eventsource` under node: eventsource.mjs MODULE URL NAMES LAST; prints what it reported, as JSON.
import { pathToFileURL } from "node:url";
import "./record.js";

const [module, url, names, last] = process.argv.slice(2);
const { EventSource } = await import(pathToFileURL(module).href);
console.log(JSON.stringify(await globalThis.record(new EventSource(url), JSON.parse(names), JSON.parse(last))));
