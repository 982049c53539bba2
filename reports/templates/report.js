"use strict";
(() => {
  const config = {
    font: getComputedStyle(document.body).fontFamily,
    axis: {
      labelColor: "currentColor", titleColor: "currentColor", titleFontWeight: "normal", titleOpacity: 0.75, labelFontSize: 11,
      gridColor: "currentColor", gridOpacity: 0.12, domainColor: "currentColor", domainOpacity: 0.3, tickColor: "currentColor", tickOpacity: 0.3,
    },
    legend: { labelColor: "currentColor", titleColor: "currentColor", labelFontSize: 12 },
    text: { color: "currentColor" },
    view: { stroke: null },
  };
  const listen = (selector, event, handle) => {
    for (const element of document.querySelectorAll(selector)) element.addEventListener(event, () => handle(element));
  };

  // Charts: drawn one after the other, those of a choice that is not shown when it is chosen.
  const views = new Map();
  const draw = async (figure) => {
    const source = figure.querySelector("script[data-chart]");
    if (views.has(source) || figure.hidden) return;
    views.set(source, null);
    const spec = JSON.parse(source.textContent);
    for (const param of spec.params ?? []) {
      const select = figure.closest("section").querySelector(`select[data-signal="${param.name}"]`);
      if (select) param.value = select.value;
    }
    const place = figure.querySelector(".plot");
    try {
      const result = await vegaEmbed(place, spec, { mode: "vega-lite", actions: false, renderer: "svg", logLevel: 1, config });
      views.set(source, result.view);
    } catch (error) {
      place.textContent = "This figure could not be drawn; the tables have its numbers.";
      console.error(error);
    }
  };
  const drawAll = async (within) => {
    for (const figure of within.querySelectorAll("figure.chart")) await draw(figure);
  };

  listen("select[data-signal]", "change", async (select) => {
    for (const source of select.closest("section").querySelectorAll("script[data-chart]")) {
      const view = views.get(source);
      const known = JSON.parse(source.textContent).params ?? [];
      if (view && known.some((param) => param.name === select.dataset.signal)) {
        await view.signal(select.dataset.signal, select.value).runAsync();
      }
    }
  });
  listen("select[data-pick]", "change", async (select) => {
    const section = select.closest("section");
    for (const figure of section.querySelectorAll("figure[data-group]")) {
      figure.hidden = figure.dataset.group !== select.value;
      // What is already drawn may have been told another task meanwhile, or stand in another width.
      const view = views.get(figure.querySelector("script[data-chart]"));
      if (!figure.hidden && view) await view.resize().runAsync();
    }
    await drawAll(section);
  });

  // Tables. Numbers stand before what has no value, whichever way a column is sorted.
  const key = (cell) => cell.dataset.sort ?? cell.textContent;
  const compare = (a, b, down) => {
    const [first, second] = [key(a), key(b)];
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
  const filter = (input) => {
    const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...document.getElementById(input.dataset.filter).tBodies[0].rows];
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
    }
    const left = rows.filter((row) => !row.hidden).length;
    input.closest(".tool").querySelector("output").textContent = left === rows.length ? `${left} rows` : `${left} of ${rows.length} rows`;
  };
  listen("table.sortable th button", "click", (button) => sort(button.parentNode));
  listen("input[data-filter]", "input", filter);

  // Changed samples. All text goes in as text, never as HTML: it is what a model wrote.
  const make = (tag, className, ...children) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    element.append(...children);
    return element;
  };
  const shared = (a, b) => {
    let length = 0;
    while (length < a.length && length < b.length && a[length] === b[length]) length += 1;
    return length;
  };
  const answerBox = (answer, name, reference) => {
    const change = { lost: ["worse", "▼ lost"], gained: ["better", "▲ gained"] }[answer.change] ?? ["soft", "reference"];
    const score = answer.score === null ? "unscored" : `score ${+answer.score.toPrecision(3)}`;
    const facts = [answer.outcome, score, answer.answer && `answer: ${answer.answer}`].filter(Boolean).join(", ");
    const same = reference ? shared(answer.output, reference.output) : 0;
    const output = make("pre", "", make("span", "soft", answer.output.slice(0, same)), answer.output.slice(same));
    return make("article", "", make("h3", "", `${name} `, make("span", change[0], change[1])), make("p", "soft", facts), output);
  };
  const browse = (data) => {
    const form = document.getElementById("flip-form");
    const list = document.getElementById("flip-list");
    const more = document.getElementById("flip-more");
    const step = 25;
    let found = [];
    let shown = 0;
    for (const [name, values] of [["task", data.tasks], ["quant", data.quants]]) {
      form.elements[name].append(...values.map((value, index) => new Option(value, index)));
    }
    const fill = (details, sample) => {
      const quant = form.elements.quant.value;
      const reference = (sample.answers ?? []).find((answer) => answer.quant < 0);
      const others = (sample.answers ?? []).filter((answer) => answer.quant >= 0);
      others.sort((a, b) => (String(b.quant) === quant) - (String(a.quant) === quant));
      const side = make("div", "answers side");
      if (reference) side.append(answerBox(reference, data.reference, null));
      side.append(make("div", "", ...others.map((answer) => answerBox(answer, data.quants[answer.quant], reference))));
      const names = (quants) => quants.map((index) => data.quants[index]).join(", ");
      details.append(make("p", "soft", [sample.lost.length && `Lost by ${names(sample.lost)}.`, sample.gained.length && `Gained by ${names(sample.gained)}.`].filter(Boolean).join(" ")));
      if (sample.answers) details.append(side);
      else if (!sample.page) details.append(make("p", "soft", "There is no room for its outputs here; the export has them."));
      if (sample.page) {
        const link = make("a", "", "The whole outputs of this sample");
        link.href = `${data.files}/${sample.page}`;
        details.append(make("p", "", link));
      }
    };
    const row = (sample) => {
      const summary = make("summary", "", make("b", "", data.tasks[sample.task]), " ", make("span", "id", sample.id), " ",
        make("span", sample.lost.length ? "worse" : "soft", `▼ ${sample.lost.length} lost`), " ",
        make("span", sample.gained.length ? "better" : "soft", `▲ ${sample.gained.length} gained`), " ",
        make("span", "soft", `of ${sample.of} quants`));
      const details = make("details", "flip", summary);
      details.addEventListener("toggle", () => { if (details.open && details.children.length === 1) fill(details, sample); });
      return details;
    };
    const extend = () => {
      list.append(...found.slice(shown, shown + step).map(row));
      shown = Math.min(shown + step, found.length);
      more.hidden = shown === found.length;
      more.textContent = `Show ${Math.min(step, found.length - shown)} more`;
    };
    const holds = (sample, text) => sample.id.toLowerCase().includes(text)
      || (sample.answers ?? []).some((answer) => `${answer.answer}\n${answer.output}`.toLowerCase().includes(text));
    const search = () => {
      const { task, quant, change, text } = Object.fromEntries(new FormData(form));
      const changes = (sample) => (change ? sample[change] : [...sample.lost, ...sample.gained]);
      found = data.samples.filter((sample) => (task === "" || sample.task === Number(task))
        && (quant === "" ? changes(sample).length : changes(sample).includes(Number(quant)))
        && (text === "" || holds(sample, text.toLowerCase())));
      list.replaceChildren();
      shown = 0;
      extend();
      const all = data.total > data.samples.length ? `${data.samples.length} of ${data.total}` : `${data.total}`;
      document.getElementById("flip-count").textContent = `${found.length} of ${all} samples`;
    };
    form.addEventListener("input", search);
    form.addEventListener("submit", (event) => event.preventDefault());
    more.addEventListener("click", () => {
      const next = list.children.length;
      extend();
      list.children[next].querySelector("summary").focus();
    });
    search();
  };
  const flips = document.getElementById("flip-data");
  if (flips) browse(JSON.parse(flips.textContent));

  // On paper everything is open, but for the samples: those only as far as the reader opened them.
  const opened = [];
  window.addEventListener("beforeprint", () => {
    opened.push(...document.querySelectorAll("details:not([open]):not(.flip)"));
    for (const details of opened) details.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const details of opened.splice(0)) details.open = false;
  });

  drawAll(document).then(() => document.documentElement.setAttribute("data-drawn", ""));
})();
