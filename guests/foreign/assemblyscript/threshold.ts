// Keeps the records whose JSON number field is within limits: guests/modules/threshold in
// AssemblyScript, with the same settings and messages. Built by core/transform/tests/languages.rs.

import {
  Bytes, Record, Verdict, fail, jsonNumber, parseNumber, register, setting,
} from "../../../wasm-sdk/assemblyscript/millpond";
export {
  millpond_alloc, millpond_init, millpond_progress, millpond_transform_v1,
} from "../../../wasm-sdk/assemblyscript/millpond";

let field: Bytes = new Bytes(0, 0);
let min: f64 = -Infinity;
let max: f64 = Infinity;
let inside: Verdict = Verdict.Keep;
let outside: Verdict = Verdict.Drop;
let missing: Verdict = Verdict.Failed;
let message: string = "";

function limit(name: string, otherwise: f64): f64 {
  const text = setting(name);
  if (text === null) return otherwise;
  const number = parseNumber(Bytes.of(text.trim()));
  if (isNaN(number)) throw new Error("the setting `" + name + "` cannot be read: `" + text + "`");
  return number;
}

function start(): void {
  min = limit("min", -Infinity);
  max = limit("max", Infinity);
  if (min == -Infinity && max == Infinity) throw new Error("set `min`, `max` or both");

  const keep = setting("keep");
  if (keep !== null && keep != "inside" && keep != "outside") {
    throw new Error("`keep` is inside or outside, not `" + keep + "`");
  }
  inside = keep !== null && keep == "outside" ? Verdict.Drop : Verdict.Keep;
  outside = inside == Verdict.Keep ? Verdict.Drop : Verdict.Keep;

  const otherwise = setting("missing");
  if (otherwise !== null && otherwise == "keep") missing = Verdict.Keep;
  else if (otherwise !== null && otherwise == "drop") missing = Verdict.Drop;
  else if (otherwise !== null && otherwise != "error") {
    throw new Error("`missing` is error, keep or drop, not `" + otherwise + "`");
  }

  const name = setting("field");
  if (name === null) throw new Error("the setting `field` is required");
  field = Bytes.of(name);
  message = "no number in the field `" + name + "`";
}

register(start, (record: Record): Verdict => {
  const value = record.value;
  const number = value === null ? NaN : jsonNumber(value, field);
  if (isNaN(number)) return missing == Verdict.Failed ? fail(message) : missing;
  return min <= number && number <= max ? inside : outside;
});
