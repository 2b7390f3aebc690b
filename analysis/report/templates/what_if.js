// The best training run for a given compute: the fitted laws of N (parameters) and D (tokens) evaluated, nothing fitted.
// `whatIf(facts, formulas, ask)` is pure; the panel below it only reads inputs and writes words. `formulas` holds functions
// of (p, x), parameters and variables by name: `laws` by name, and `effective`, the worth of repeated tokens. The report
// writes them below this file, as FORMULAS, from the laws' Python.
"use strict";

// FLOPs of one training token at size N, as laws/cost.py states them.
function tokenFlops(cost, N) {
  if (!(cost.limit > 0)) return cost.k * N ** cost.gamma;
  const share = (Math.abs(cost.k) / cost.limit) * N ** (cost.gamma - 1);
  return cost.limit * N * (cost.k > 0 ? 1 + share : 1 / (1 + share));
}

// d log FLOPs / d log N at size N.
function slope(cost, N) {
  if (!(cost.limit > 0)) return cost.gamma;
  const share = (Math.abs(cost.k) / cost.limit) * N ** (cost.gamma - 1);
  return 1 + (Math.sign(cost.k) * (cost.gamma - 1) * share) / (1 + share);
}

// Log N of the model on N^exponent tokens that costs so many FLOPs.
function logSize(cost, flops, exponent) {
  let [low, high] = [-50, 150];
  for (let i = 0; i < 64; i++) {
    const middle = (low + high) / 2;
    if (Math.log(tokenFlops(cost, Math.exp(middle))) + exponent * middle < Math.log(flops)) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

// Tokens bought at size N: serving costs a third of training's FLOPs a token (the forward pass alone).
function tokensFor(ask, cost, N) {
  return ask.flops / tokenFlops(cost, N) - ask.served / 3;
}

// The allocation with the lowest loss: the lowest dip of a scan of log N, as `Law.optimum` takes it, then golden section.
// `form.near` holds the tokens per parameter between which a law without a closed form is searched, null elsewhere. null
// where there is no interior optimum.
function optimum(form, values, ask, facts, formulas) {
  const { cost, repeats } = facts;
  const law = formulas.laws[form.law];
  const p = Object.fromEntries(form.names.map((name, i) => [name, values[i]]));
  const loss = (x) => {
    const N = Math.exp(x);
    const D = tokensFor(ask, cost, N);
    if (!(D > 0)) return Infinity;
    const value = law(p, { N, D: formulas.effective(repeats, { D, U: Math.min(D, ask.unique) }) });
    return Number.isFinite(value) ? value : Infinity;
  };
  // Beyond the largest N a budget buys less than one token, or serving alone takes it all.
  const most = logSize(cost, ask.flops / Math.max(1, ask.served / 3), 0);
  const sized = (ratio) => logSize(cost, ask.flops / ratio, 1);
  const [start, end] = form.near ? [Math.max(0, sized(form.near[1])), Math.min(most, sized(form.near[0]))] : [0, most];
  const steps = 128;
  const at = (i) => start + ((end - start) * i) / steps;
  const scan = Array.from({ length: steps + 1 }, (_, i) => loss(at(i)));
  let best = 0;
  for (let i = 1; i < steps; i++) {
    const dips = scan[i - 1] > scan[i] && scan[i + 1] >= scan[i] && Number.isFinite(scan[i]);
    if (dips && (best === 0 || scan[best] > scan[i])) best = i;
  }
  if (best === 0) return null;
  let [low, high] = [at(best - 1), at(best + 1)];
  const ratio = (Math.sqrt(5) - 1) / 2;
  let [left, right] = [high - ratio * (high - low), low + ratio * (high - low)];
  let [atLeft, atRight] = [loss(left), loss(right)];
  for (let i = 0; i < 48; i++) {
    if (atLeft < atRight) {
      [high, right, atRight] = [right, left, atLeft];
      left = high - ratio * (high - low);
      atLeft = loss(left);
    } else {
      [low, left, atLeft] = [left, right, atRight];
      right = low + ratio * (high - low);
      atRight = loss(right);
    }
  }
  const N = Math.exp((low + high) / 2);
  return { params: N, tokens: tokensFor(ask, cost, N), loss: loss((low + high) / 2) };
}

function quantile(sorted, q) {
  const place = q * (sorted.length - 1);
  const k = Math.min(Math.floor(place), sorted.length - 2);
  if (sorted.length < 2) return sorted[0];
  return sorted[k] + (sorted[k + 1] - sorted[k]) * (place - k);
}

function interpolate(x, xs, ys) {
  if (x <= xs[0]) return ys[0];
  if (x >= xs[xs.length - 1]) return ys[ys.length - 1];
  let k = 1;
  while (xs[k] < x) k++;
  return ys[k - 1] + ((ys[k] - ys[k - 1]) * (x - xs[k - 1])) / (xs[k] - xs[k - 1]);
}

// How far the power law through the isoFLOP minima lies from the surface, less what its own interval explains.
function isoflopGap(facts, name, flops, value) {
  const law = facts.isoflop[name];
  if (!law) return null;
  const at = law.floor + law.coefficient * flops ** law.exponent;
  const grid = law.flops.map(Math.log);
  const [low, high] = [law.low, law.high].map((end) => interpolate(Math.log(flops), grid, end.map(Math.log)));
  const own = (high - low) / 2 / facts.z;
  return Math.sqrt(Math.max(Math.log(at / value) ** 2 - own ** 2, 0));
}

const mean = (values) => values.reduce((sum, one) => sum + one, 0) / values.length;
const deviation = (values) => Math.sqrt(mean(values.map((one) => (one - mean(values)) ** 2)));

// The log mean of the forecasters. Serving and repeats move it as they move the optima of its laws of N and D, on average.
function meanWhatIf(facts, formulas, ask) {
  const { mean: terms, cost } = facts;
  const spending = (one) => tokenFlops(cost, one.params) * one.tokens;
  const moved = facts.forms.map((form) => [form, optimum(form, form.values, ask, facts, formulas)]).filter(([, one]) => one);
  if (!moved.length && (ask.served > 0 || Number.isFinite(ask.unique))) return null;
  const spent = moved.length ? Math.exp(mean(moved.map(([, one]) => Math.log(spending(one))))) : ask.flops;
  const plainly = { flops: spent, served: 0, unique: Infinity };
  const plain = new Map(facts.forms.map((form) => [form, optimum(form, form.values, plainly, facts, formulas)]));
  const raised = (law) => law.floor + law.coefficient * spent ** law.exponent;
  const members = [...terms.powers.map((one) => ({ params: raised(one.params), loss: raised(one.loss) })), ...plain.values()].filter(Boolean);
  if (!members.length) return null;
  const moves = (name) => moved.filter(([form]) => plain.get(form)).map(([form, one]) => Math.log(one[name] / plain.get(form)[name]));
  const at = (name) => Math.exp(mean(members.map((one) => Math.log(one[name]))) + (moved.length ? mean(moves(name)) : 0));
  const params = at("params");
  const value = { params, loss: at("loss"), tokens: tokensFor(ask, cost, params) };
  if (!(value.tokens > 0)) return null;
  const training_flops = spending(value);
  const decades = Math.max(decadesBeyond(facts, training_flops), terms.least_horizon_decades);
  const half = (name) => Math.hypot(terms.half_width[name] * decades, facts.z * (moved.length ? deviation(moves(name)) : 0));
  const widths = {
    params: half("params"),
    tokens: slope(cost, params) * half("params"),
    loss: Math.hypot(half("loss"), (facts.z * terms.noise_sd_nats) / value.loss),
  };
  const answer = { tokens_per_param: { value: value.tokens / params }, training_flops, epochs: value.tokens / ask.unique };
  for (const [name, width] of Object.entries(widths)) {
    const ends = facts.no_interval ? [null, null] : [value[name] * Math.exp(-width), value[name] * Math.exp(width)];
    answer[name] = { value: value[name], low: ends[0], high: ends[1] };
  }
  return { ...answer, ...trust(facts, answer, ask) };
}

// facts: the numbers that the report embeds. formulas: see above. ask: {flops, served, unique}.
// Returns null where the leading law, or every forecaster, has no optimum.
function whatIf(facts, formulas, ask) {
  if (facts.mean) return meanWhatIf(facts, formulas, ask);
  const [lead, ...others] = facts.forms;
  const best = (form, values, asked = ask) => optimum(form, values, asked, facts, formulas);
  const point = best(lead, lead.values);
  if (!point) return null;
  const training_flops = tokenFlops(facts.cost, point.params) * point.tokens;
  const plain = best(lead, lead.values, { flops: training_flops, served: 0, unique: Infinity });
  const elsewhere = others.map((form) => best(form, form.values));
  const drawn = lead.draws.map((values) => best(lead, values));
  const answer = { tokens_per_param: { value: point.tokens / point.params } };
  for (const name of ["params", "tokens", "loss"]) {
    const value = point[name];
    answer[name] = { value, low: null, high: null };
    const logs = drawn.filter(Boolean).map((one) => Math.log(one[name])).sort((a, b) => a - b);
    if (!logs.length) continue;
    const gaps = elsewhere.filter(Boolean).map((one) => Math.log(one[name] / value));
    const gap = plain ? isoflopGap(facts, name, training_flops, plain[name]) : null;
    if (gap !== null) gaps.push(gap);
    const form = gaps.length ? facts.z * Math.sqrt(gaps.reduce((sum, g) => sum + g * g, 0) / gaps.length) : 0;
    const noise = name === "loss" ? facts.z * facts.noise_sd_log : 0;
    const middle = Math.log(value);
    const [low, high] = [(1 - facts.level) / 2, (1 + facts.level) / 2].map((q) => quantile(logs, q));
    const factor = facts.factors[name === "loss" ? "loss" : "params"];
    answer[name].low = Math.exp(middle - Math.hypot(factor * Math.max(middle - low, 0), factor * noise, form));
    answer[name].high = Math.exp(middle + Math.hypot(factor * Math.max(high - middle, 0), factor * noise, form));
  }
  answer.training_flops = training_flops;
  answer.epochs = point.tokens / ask.unique;
  return { ...answer, ...trust(facts, answer, ask) };
}

function decadesBeyond(facts, flops) {
  const [least, most] = facts.range.flops;
  return Math.max(Math.log10(flops / most), Math.log10(least / flops), 0);
}

// Whether the answer lies where predictions were checked, and the reasons why not.
function trust(facts, answer, ask) {
  const flops = answer.training_flops;
  const least = facts.range.flops[0];
  const decades = decadesBeyond(facts, flops);
  const reasons = [];
  if (facts.no_interval) reasons.push(`there is no interval: ${facts.no_interval}`);
  else if (!facts.reach_decades) reasons.push("no roll-out was scored, so the interval is not calibrated");
  else if (flops < least / 10 ** facts.reach_slack) reasons.push(`${decades.toFixed(2)} decades below the data, where nothing was checked`);
  else if (decades > facts.reach_decades + facts.reach_slack) {
    reasons.push(`${decades.toFixed(2)} decades beyond the data; predictions were checked up to ${facts.reach_decades.toFixed(2)} decades only`);
  }
  if (facts.doubt) reasons.push(`${facts.doubt}, so the interval may be too narrow`);
  const ratio = answer.tokens_per_param.value;
  const [few, many] = facts.range.tokens_per_param;
  if (ratio < few || ratio > many) {
    reasons.push(`${number(ratio)} tokens per parameter lie outside the ${number(few)} to ${number(many)} that the data hold`);
  }
  if (answer.epochs > 1) reasons.push(`tokens are repeated: ${facts.repeats.words}`);
  return { decades_beyond: decades, calibrated: reasons.length === 0, reasons };
}

function number(value) {
  return value >= 1e5 || value < 1e-3 ? scientific(value) : String(Number(value.toPrecision(4)));
}

function scientific(value) {
  const [mantissa, exponent] = value.toExponential(2).split("e");
  const raised = String(Number(exponent)).replace(/[-0-9]/g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"["0123456789".indexOf(c)] || "⁻");
  return Number(mantissa) === 1 ? `10${raised}` : `${mantissa}×10${raised}`;
}

function count(value) {
  for (const [unit, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= 0.9995 * unit) return value / unit >= 999.5 ? scientific(value) : (value / unit).toPrecision(3).replace(/\.$/, "") + letter;
  }
  return String(Number(value.toPrecision(3)));
}

// "3e24", "70B", "1.5 T" or empty; NaN for anything else.
function parseAmount(text) {
  const found = /^([0-9.]+(?:e[-+]?[0-9]+)?)\s*([kKMBGTP]?)$/i.exec(text.trim().replace(/[,_]/g, ""));
  if (!found) return NaN;
  const unit = { "": 1, K: 1e3, M: 1e6, B: 1e9, G: 1e9, T: 1e12, P: 1e15 }[found[2].toUpperCase()];
  return Number(found[1]) * unit;
}

const MOST_TIMES = { params: 1000, tokens: 1000, loss: 4 }; // between an interval's ends, beyond which its value states nothing

// A quantity and its interval in words; a dash where the interval leaves it open.
function stated(one, words, most) {
  if (one.low === null) return [words(one.value), "no interval"];
  if (!(one.high <= most * one.low)) return ["–", `not determined: its interval spans more than a factor of ${most}`];
  return [words(one.value), `${words(one.low)} to ${words(one.high)}`];
}

function withoutOptimum(facts, ask) {
  if (ask.served > 0 && whatIf(facts, FORMULAS, { ...ask, served: 0 })) {
    return `Serving ${count(ask.served)} tokens leaves too little of that compute to train on: spend more, or serve fewer.`;
  }
  return "The law has no optimum near the sizes that were tried.";
}

function startWhatIf(facts, root) {
  const inputs = Object.fromEntries(["flops", "served", "unique"].map((name) => [name, root.querySelector(`[name=${name}]`)]));
  const out = (name) => root.querySelector(`[data-out=${name}]`);
  const refresh = () => {
    const ask = { flops: parseAmount(inputs.flops.value), served: 0, unique: Infinity };
    if (inputs.served.value.trim()) ask.served = parseAmount(inputs.served.value);
    if (inputs.unique.value.trim()) ask.unique = parseAmount(inputs.unique.value);
    const bad = ["flops", "served", "unique"].filter((name) => !(ask[name] >= 0) || (name !== "served" && !(ask[name] > 0)));
    for (const name of Object.keys(inputs)) inputs[name].setAttribute("aria-invalid", String(bad.includes(name)));
    const answer = bad.length ? null : whatIf(facts, FORMULAS, ask);
    root.classList.toggle("unknown", !answer);
    const trusted = out("trust");
    if (!answer) {
      for (const name of ["params", "tokens", "loss"]) [out(name).textContent, out(`${name}-interval`).textContent] = ["–", ""];
      out("notes").textContent = "";
      trusted.className = "badge bad";
      trusted.textContent = bad.length ? "Write amounts as 3e24, 70B or 1.5T." : withoutOptimum(facts, ask);
      return;
    }
    for (const [name, words] of [["params", count], ["tokens", count], ["loss", (v) => v.toFixed(4)]]) {
      [out(name).textContent, out(`${name}-interval`).textContent] = stated(answer[name], words, MOST_TIMES[name]);
    }
    const known = (name) => out(name).textContent !== "–";
    const notes = known("params") ? [`${number(answer.tokens_per_param.value)} tokens per parameter`] : [];
    if (facts.bits_of_nat && known("loss")) notes.push(`the loss is ${(answer.loss.value * facts.bits_of_nat).toFixed(4)} bits per byte`);
    if (ask.served > 0) notes.push(`training takes ${scientific(answer.training_flops)} FLOPs of the ${scientific(ask.flops)}, serving the rest`);
    if (Number.isFinite(answer.epochs) && answer.epochs > 0) notes.push(`${number(answer.epochs)} passes over the unique tokens`);
    out("notes").textContent = notes.length ? notes.join("; ") + "." : "";
    trusted.className = answer.calibrated && !facts.warned ? "badge good" : "badge bad";
    const checked = answer.decades_beyond ? `${answer.decades_beyond.toFixed(2)} decades beyond the data, within what the roll-outs checked` : "inside the data's range";
    trusted.textContent = answer.calibrated ? `Calibrated: ${checked}.${facts.warned ? " Read the warnings at the top first." : ""}` : `Out of the calibrated range: ${answer.reasons.join("; ")}.`;
  };
  Object.values(inputs).forEach((input) => input.addEventListener("input", refresh));
  refresh();
}

if (typeof module !== "undefined") module.exports = { whatIf, parseAmount, count, scientific, stated };
