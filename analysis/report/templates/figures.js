// Draws the embedded panels with plotly when they come near the screen; a legend entry switches its marks on and off.
"use strict";

const FONT = { family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif", size: 12 };
const AXIS = { zeroline: false, showline: true, ticks: "outside", ticklen: 4, tickangle: 0 };

const DARK = matchMedia("(prefers-color-scheme: dark)");
const PRINTED = 680, PRINTED_COLUMNS = 2; // pixels of a printed page, and panels in a row of it
const DIMMEST = 0.2; // luminance that a mark on a dark page has at least
const PAPER_LIKE = 0.75; // luminance from which a colour is a background of the light page
const COLORS = new Set(["color", "fillcolor", "bgcolor"]); // plotly's keys of colours

const isPrinting = () => "printing" in document.documentElement.dataset;
const isDark = () => DARK.matches && !isPrinting();
const colorOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// A colour of the light page as this page shows it: dark inks become lighter, and backgrounds dark, where it is dark.
function shade(color) {
  const hex = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(color === "white" ? "#ffffff" : color);
  const parts = hex ? hex.slice(1).map((one) => parseInt(one, 16)) : (color.match(/^rgba\((.*)\)$/)?.[1].split(",").map(Number) ?? []);
  if (!isDark() || parts.length < 3) return color;
  const [rgb, alpha] = [parts.slice(0, 3), parts[3] ?? 1];
  const luminance = (of) => of.map((one) => (one / 255) ** 2.2).reduce((sum, one, k) => sum + one * [0.2126, 0.7152, 0.0722][k], 0);
  if (luminance(rgb) > PAPER_LIKE) return Math.min(...rgb) > 250 ? colorOf("paper") : colorOf("grid");
  if (Math.max(...rgb) < 40) return colorOf("ink");
  let mixed = rgb;
  for (let white = 0.1; luminance(mixed) < DIMMEST; white += 0.1) mixed = rgb.map((one) => one + (255 - one) * white);
  return `rgba(${mixed.map(Math.round).join(",")},${alpha})`;
}

// The same traces or shapes in the colours of this page.
function shaded(value, key) {
  if (COLORS.has(key) && typeof value === "string") return shade(value);
  if (COLORS.has(key) && Array.isArray(value)) return value.map((one) => (typeof one === "string" ? shade(one) : one));
  if (Array.isArray(value)) return typeof value[0] === "object" ? value.map((one) => shaded(one)) : value;
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, shaded(one, name)]));
}

// The keys of a legend in the colours of this page.
function shadeLegends() {
  for (const mark of document.querySelectorAll(".legend svg *")) {
    for (const name of ["fill", "stroke"]) {
      if (!mark.hasAttribute(name) || mark.getAttribute(name) === "none") continue;
      mark.dataset[name] ??= mark.getAttribute(name);
      mark.setAttribute(name, shade(mark.dataset[name]));
    }
  }
}

// Pixels of a panel's width; on paper a column's share, for the page is laid out anew only after the figures are drawn.
function widthOf(figure, box) {
  if (!isPrinting()) return box.clientWidth;
  const columns = figure.matrix ? figure.columns : Math.min(figure.columns, PRINTED_COLUMNS);
  return PRINTED / columns - 14;
}

const LETTER = 6.6; // pixels of a letter, on average
const ABOVE = { x: 0, xref: "paper", xanchor: "left", y: 1, yref: "paper", yanchor: "bottom", yshift: 3 }; // a panel

// Breaks a label (already escaped) into lines that fit; lines that it has stay.
function wrapped(label, pixels) {
  if (label.includes("<br>")) return label.split("<br>").map((line) => wrapped(line, pixels)).join("<br>");
  const most = Math.max(Math.floor(pixels / LETTER), 14);
  const lines = [""];
  for (const word of label.split(" ")) {
    const last = lines.length - 1;
    if (lines[last] && (lines[last] + " " + word).length > most) lines.push(word);
    else lines[last] = lines[last] ? lines[last] + " " + word : word;
  }
  return lines.join("<br>");
}

function layoutOf(panel, figure, box) {
  const { gutter, ...layout } = shaded(panel.layout);
  const whole = widthOf(figure, box);
  const left = gutter === undefined ? 10 : Math.min(gutter, whole * 0.45);
  const beside = panel.names ? Math.max(...layout.yaxis.ticktext.map((one) => one.length)) * LETTER : left;
  const width = whole - beside - 20;
  const yaxis = { ...layout.yaxis };
  if (panel.names && window.innerWidth <= 640) yaxis.showticklabels = true; // panels lie below each other
  const most = Math.floor((left - 16) / (1.1 * LETTER));
  if (left < gutter) yaxis.ticktext = yaxis.ticktext.map((one) => (one.length > most && !one.includes("&") ? one.slice(0, most - 1) + "…" : one));
  const lines = { linecolor: colorOf("axis"), tickcolor: colorOf("axis"), gridcolor: colorOf("grid") };
  const font = { ...FONT, color: colorOf("ink") };
  const title = panel.title && wrapped(panel.title, whole - left - 12);
  const above = title ? 10 + 15 * title.split("<br>").length : 8;
  const axis = (own, length) => ({ ...AXIS, ...lines, ...own, title: { text: wrapped(own.title.text, length), standoff: 8, font: { size: 12 } } });
  return {
    ...layout,
    xaxis: axis(layout.xaxis, width),
    yaxis: axis(yaxis, panel.height - 70),
    ...(layout.yaxis2 ? { yaxis2: axis(layout.yaxis2, panel.height - 70) } : {}),
    width: whole,
    height: panel.height + Math.max(above - 25, 0),
    margin: { l: left, r: 12, t: above, b: layout.xaxis.showticklabels ? 40 : layout.xaxis.title.text ? 30 : 8 },
    // A title of plotly's own lies too high where it has several lines.
    annotations: [...layout.annotations, ...(title ? [{ text: title, font: { size: 12 }, align: "left", showarrow: false, ...ABOVE }] : [])],
    font,
    showlegend: false,
    hovermode: "closest",
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    hoverlabel: { align: "left", bgcolor: colorOf("paper"), bordercolor: colorOf("axis"), font },
    paper_bgcolor: colorOf("paper"),
    plot_bgcolor: colorOf("paper"),
  };
}

function drawPanel(box, figures) {
  if (box.dataset.drawn) return;
  box.dataset.drawn = "yes";
  const figure = figures[box.dataset.figure];
  const panel = figure.panels[Number(box.dataset.panel)];
  const layout = layoutOf(panel, figure, box);
  box.style.height = `${layout.height}px`;
  Plotly.newPlot(box, shaded(panel.data), layout, { responsive: false, displayModeBar: false, doubleClick: "reset" });
  box.on("plotly_relayout", (change) => {
    // A zoomed axis needs ticks of its own; a double click brings back the first ones.
    for (const name of ["xaxis", "yaxis"]) {
      const range = change[`${name}.range[0]`];
      if (range === undefined) continue;
      const mode = Math.abs(range - panel.layout[name].range[0]) < 1e-9 ? "array" : "auto";
      if (box.layout[name].tickmode !== mode) Plotly.relayout(box, { [`${name}.tickmode`]: mode });
      if (name === "yaxis" && panel.layout.yaxis2) zoomOther(box, panel.layout, mode);
    }
  });
}

// Zooms the second scale with the first: their ranges stay as far apart, or in proportion on an axis without logarithms.
function zoomOther(box, first, mode) {
  const [from, to] = [first.yaxis.range, first.yaxis2.range];
  const slope = (to[1] - to[0]) / (from[1] - from[0]);
  const range = box.layout.yaxis.range.map((end) => to[0] + slope * (end - from[0]));
  Plotly.relayout(box, { "yaxis2.range": range, "yaxis2.tickmode": mode });
}

// Draws a panel again, in the width and the colours that hold now; what its legend hides stays hidden.
function redraw(box, figures) {
  const figure = figures[box.dataset.figure];
  const panel = figure.panels[Number(box.dataset.panel)];
  const layout = layoutOf(panel, figure, box);
  box.style.height = `${layout.height}px`;
  const data = shaded(panel.data).map((trace, k) => ({ ...trace, visible: box.data[k].visible ?? true }));
  Plotly.react(box, data, layout);
}

function startFigures(figures) {
  const boxes = [...document.querySelectorAll(".panel[data-figure]")];
  const drawAll = () => boxes.forEach((box) => drawPanel(box, figures));
  if ("IntersectionObserver" in window) {
    const near = new IntersectionObserver(
      (seen) => seen.filter((one) => one.isIntersecting).forEach((one) => (near.unobserve(one.target), drawPanel(one.target, figures))),
      { rootMargin: "800px" },
    );
    boxes.forEach((box) => near.observe(box));
  } else drawAll();
  const redrawAll = () => (shadeLegends(), boxes.filter((one) => one.dataset.drawn).forEach((box) => redraw(box, figures)));
  window.addEventListener("beforeprint", () => {
    document.documentElement.dataset.printing = "";
    drawAll();
    redrawAll();
  });
  window.addEventListener("afterprint", () => {
    delete document.documentElement.dataset.printing;
    redrawAll();
  });
  DARK.addEventListener("change", redrawAll);
  shadeLegends();
  let waiting;
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(redrawAll, 150);
  });
  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const box of boxes.filter((one) => one.dataset.figure === button.dataset.figure)) {
        drawPanel(box, figures);
        const which = box.data.map((trace, k) => (trace.name === button.dataset.key ? k : -1)).filter((k) => k >= 0);
        if (which.length) Plotly.restyle(box, { visible: shown }, which);
      }
    });
  }
}

// Tables sort by the column whose heading is pressed: by data-value where a cell has one, else by its words.
function startTables() {
  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("thead th").forEach((heading, column) => {
      const sort = () => {
        const up = heading.getAttribute("aria-sort") !== "ascending";
        table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          const order = x !== "" && y !== "" && !isNaN(x) && !isNaN(y) ? x - y : x.localeCompare(y, undefined, { numeric: true });
          return up ? order : -order;
        });
        table.tBodies[0].append(...rows);
      };
      heading.querySelector("button").addEventListener("click", sort);
    });
  }
}
