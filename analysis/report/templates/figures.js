// Draws the embedded panels with plotly when they come near the screen; a legend entry switches its marks on and off.
"use strict";

const FONT = { family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif", size: 12, color: "#1d2327" };
const AXIS = { zeroline: false, showline: true, linecolor: "#8a9096", gridcolor: "#e8eaec", ticks: "outside", ticklen: 4, tickangle: 0, tickcolor: "#8a9096" };

const LETTER = 6.6; // pixels of a letter, on average

// Breaks a label (already escaped) into lines that fit.
function wrapped(label, pixels) {
  const most = Math.max(Math.floor(pixels / LETTER), 14);
  const lines = [""];
  for (const word of label.split(" ")) {
    const last = lines.length - 1;
    if (lines[last] && (lines[last] + " " + word).length > most) lines.push(word);
    else lines[last] = lines[last] ? lines[last] + " " + word : word;
  }
  return lines.join("<br>");
}

function layoutOf(panel, box) {
  const { gutter, ...layout } = panel.layout;
  const left = gutter === undefined ? 10 : Math.min(gutter, box.clientWidth * 0.45);
  const beside = panel.names ? Math.max(...layout.yaxis.ticktext.map((one) => one.length)) * LETTER : left;
  const width = box.clientWidth - beside - 20;
  const yaxis = { ...layout.yaxis };
  if (panel.names && window.innerWidth <= 640) yaxis.showticklabels = true; // panels lie below each other
  const most = Math.floor((left - 16) / LETTER);
  if (left < gutter) yaxis.ticktext = yaxis.ticktext.map((one) => (one.length > most && !one.includes("&") ? one.slice(0, most - 1) + "…" : one));
  const axis = (own, length) => ({ ...AXIS, ...own, title: { text: wrapped(own.title.text, length), standoff: 8, font: { size: 12 } } });
  return {
    ...layout,
    xaxis: axis(layout.xaxis, width),
    yaxis: axis(yaxis, panel.height - 70),
    height: panel.height,
    margin: { l: left, r: 12, t: panel.title ? 24 : 8, b: layout.xaxis.showticklabels ? 40 : layout.xaxis.title.text ? 30 : 8 },
    title: panel.title ? { text: panel.title, font: { size: 12 }, x: 0, xref: "paper", xanchor: "left", y: 1, yref: "container", yanchor: "top", pad: { t: 4 } } : undefined,
    font: FONT,
    showlegend: false,
    hovermode: "closest",
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    hoverlabel: { align: "left", bgcolor: "#ffffff", bordercolor: "#8a9096", font: { ...FONT, size: 12 } },
    paper_bgcolor: "#ffffff",
    plot_bgcolor: "#ffffff",
  };
}

function drawPanel(box, figures) {
  if (box.dataset.drawn) return;
  box.dataset.drawn = "yes";
  const panel = figures[box.dataset.figure].panels[Number(box.dataset.panel)];
  Plotly.newPlot(box, panel.data, layoutOf(panel, box), { responsive: false, displayModeBar: false, doubleClick: "reset" });
  box.on("plotly_relayout", (change) => {
    // A zoomed axis needs ticks of its own; a double click brings back the first ones.
    for (const name of ["xaxis", "yaxis"]) {
      const range = change[`${name}.range[0]`];
      if (range === undefined) continue;
      const mode = Math.abs(range - panel.layout[name].range[0]) < 1e-9 ? "array" : "auto";
      if (box.layout[name].tickmode !== mode) Plotly.relayout(box, { [`${name}.tickmode`]: mode });
    }
  });
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
  window.addEventListener("beforeprint", drawAll);
  let waiting;
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      for (const box of boxes.filter((one) => one.dataset.drawn)) {
        const panel = figures[box.dataset.figure].panels[Number(box.dataset.panel)];
        Plotly.react(box, box.data, { ...layoutOf(panel, box), width: box.clientWidth });
      }
    }, 150);
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
