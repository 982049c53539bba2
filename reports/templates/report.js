"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const config = () => {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--ink").trim();
    const soft = style.getPropertyValue("--soft").trim();
    const line = style.getPropertyValue("--line").trim();
    return {
      font: getComputedStyle(document.body).fontFamily,
      axis: { labelColor: ink, titleColor: soft, titleFontWeight: "normal", gridColor: line, domainColor: line, tickColor: line, labelFontSize: 11 },
      legend: { labelColor: ink, titleColor: soft },
      text: { color: ink },
      view: { stroke: null },
    };
  };

  const draw = () => {
    for (const source of document.querySelectorAll("script[data-chart]")) {
      const place = document.getElementById(source.dataset.chart);
      vegaEmbed(place, JSON.parse(source.textContent), { mode: "vega-lite", actions: false, renderer: "svg", config: config() });
    }
  };

  // Numbers stand before what has no value, whichever way a column is sorted.
  const compare = (a, b, down) => {
    const [first, second] = [a.dataset.sort, b.dataset.sort];
    if (first === "" || second === "") return (first === "") - (second === "");
    const numbers = !isNaN(first) && !isNaN(second);
    return (numbers ? first - second : first.localeCompare(second)) * (down ? -1 : 1);
  };

  const sort = (heading) => {
    const index = [...heading.parentNode.children].indexOf(heading);
    const down = heading.getAttribute("aria-sort") === "ascending";
    const body = heading.closest("table").tBodies[0];
    for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...[...body.rows].sort((a, b) => compare(a.cells[index], b.cells[index], down)));
  };

  for (const button of document.querySelectorAll("table.sortable th button")) {
    button.addEventListener("click", () => sort(button.parentNode));
  }
  dark.addEventListener("change", draw);
  draw();
})();
