(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  const all = (query, from = document) => [...from.querySelectorAll(query)];
  const data = JSON.parse(document.getElementById("data").textContent);
  const tip = document.getElementById("tip");
  const said = document.getElementById("said");
  let touched = false;
  const off = { m: new Set(), b: new Set() };
  const SVG = "http://www.w3.org/2000/svg";
  const shown = (series) => !off.m.has(String(series.m)) && !off.b.has(String(series.b));

  const place = (value, scale, start, end) => {
    const log = scale.log ? Math.log10 : (v) => v;
    const share = (log(value) - log(scale.low)) / (log(scale.high) - log(scale.low));
    return start + Math.min(Math.max(share, 0), 1) * (end - start);
  };
  const variantOf = (chart) => {
    const group = document.querySelector(`#${chart.id}-svg g.variant:not(.off)`);
    return group ? group.dataset.variant : Object.keys(chart.x)[0];
  };
  const pointsOf = (chart, series, variant) => {
    const [left, top, right, bottom] = chart.box;
    return series.x.map((x, i) => [
      place(x, chart.x[variant], left, right),
      place(series.y[i], chart.y, bottom, top),
    ]);
  };

  // The front runs over the curves that are shown.
  const drawFronts = (chart) => {
    if (!chart.front) return;
    for (const variant of Object.keys(chart.x)) {
      const path = document.querySelector(`#${chart.id}-svg [data-variant="${variant}"] .front`);
      const rows = [];
      for (const series of chart.series.filter((s) => s.front && shown(s))) {
        const at = pointsOf(chart, series, variant);
        series.x.forEach((x, i) => rows.push([x, series.y[i], at[i]]));
      }
      rows.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
      const steps = [];
      let best = -1;
      let height = 0;
      for (const [, y, at] of rows) {
        if (y <= best) continue;
        if (steps.length) steps.push([at[0], height]);
        best = y;
        height = at[1];
        steps.push(at);
      }
      if (rows.length) steps.push([rows[rows.length - 1][2][0], height]);
      const d = steps.map((p) => p.map((v) => v.toFixed(2)).join(" ")).join("L");
      path.setAttribute("d", d ? "M" + d : "");
    }
  };

  // Names of hidden curves leave no gaps: those left stand as near to their ends as they fit.
  const spreadNames = (chart) => {
    const [, top, , bottom] = chart.box;
    for (const group of all(`#${chart.id}-svg .names`)) {
      const names = all(".series:not(.off)", group).map((g) => ({
        tie: g.querySelector("line"),
        text: g.querySelector("text"),
      }));
      names.forEach((name) => { name.at = Number(name.tie.getAttribute("y1")); });
      names.sort((a, b) => a.at - b.at);
      const step = Math.min(14, (bottom - top) / Math.max(names.length - 1, 1));
      names.forEach((name, i) => {
        name.at = Math.max(name.at, i ? names[i - 1].at + step : top);
      });
      for (let i = names.length - 1, most = bottom; i >= 0; i -= 1, most -= step) {
        names[i].at = Math.min(names[i].at, most);
        most = names[i].at;
      }
      for (const { tie, text, at } of names) {
        tie.setAttribute("y2", at);
        text.setAttribute("y", at + 4);
      }
    }
  };

  // Bars of hidden methods leave no gaps either: rows move up, and the axis with them.
  const stackBars = (frame) => {
    const svg = frame.querySelector("svg");
    const pitch = Number(frame.dataset.pitch);
    let rows = 0;
    for (const group of all("g.variant", svg)) {
      rows = 0;
      for (const bar of all(".series:not(.off)", group)) {
        bar.setAttribute("transform", `translate(0 ${(rows - Number(bar.dataset.row)) * pitch})`);
        rows += 1;
      }
      const moved = (rows - Number(frame.dataset.rows)) * pitch;
      group.querySelector(".axis-x").setAttribute("transform", `translate(0 ${moved})`);
    }
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    frame.dataset.height = frame.dataset.height || height;
    const wanted = Number(frame.dataset.height) + (rows - Number(frame.dataset.rows)) * pitch;
    svg.setAttribute("viewBox", `0 0 ${width} ${wanted}`);
    svg.setAttribute("height", wanted);
  };

  const apply = () => {
    for (const element of all(".series")) {
      element.classList.toggle("off", off.m.has(element.dataset.m) || off.b.has(element.dataset.b));
    }
    data.charts.forEach(drawFronts);
    all(".bars").forEach(stackBars);
    if (touched) data.charts.forEach(spreadNames);
    hide();
  };

  for (const button of all("button[data-toggle]")) {
    const kind = off[button.dataset.toggle];
    button.disabled = false;
    if (button.getAttribute("aria-pressed") === "false") kind.add(button.dataset.value);
    button.addEventListener("click", () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      kind[on ? "delete" : "add"](button.dataset.value);
      touched = true;
      apply();
      said.textContent = `${button.textContent} ${on ? "shown" : "hidden"}`;
    });
  }
  for (const button of all("button[data-figure]")) {
    button.addEventListener("click", () => {
      const { figure, variant } = button.dataset;
      for (const other of all(`button[data-figure="${figure}"]`)) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      for (const group of all(`#${figure} g.variant`)) {
        group.classList.toggle("off", group.dataset.variant !== variant);
      }
      hide();
      said.textContent = `${button.textContent}`;
    });
  }
  const pick = document.getElementById("scenario");
  if (pick) {
    pick.addEventListener("change", () => {
      for (const part of all("[data-scenario]")) {
        part.classList.toggle("off", pick.value !== "" && part.dataset.scenario !== pick.value);
      }
      said.textContent = pick.selectedOptions[0].textContent;
    });
  }
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // One tooltip for all pictures; what it says is also announced.
  function hide() {
    tip.hidden = true;
    all(".pointer").forEach((g) => g.replaceChildren());
    all(".tip.at").forEach((g) => g.classList.remove("at"));
  }
  const show = (text, x, y, aloud) => {
    tip.textContent = text;
    tip.hidden = false;
    const size = tip.getBoundingClientRect();
    const left = x + 14 + size.width > innerWidth ? x - 14 - size.width : x + 14;
    tip.style.left = `${Math.max(left, 4)}px`;
    tip.style.top = `${Math.min(Math.max(y + 14, 4), innerHeight - size.height - 4)}px`;
    if (aloud) said.textContent = text;
  };
  const onScreen = (svg, x, y) => new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());

  const walkPoints = (chart) => {
    const svg = document.getElementById(`${chart.id}-svg`);
    const frame = document.getElementById(`${chart.id}-chart`);
    const pointer = svg.querySelector(".pointer");
    let at = null;
    const mark = (series, point, aloud) => {
      hide();
      const [x, y] = pointsOf(chart, series, variantOf(chart))[point];
      const ring = document.createElementNS(SVG, "circle");
      ring.setAttribute("cx", x);
      ring.setAttribute("cy", y);
      ring.setAttribute("r", 7);
      pointer.replaceChildren(ring);
      const screen = onScreen(svg, x, y);
      show(`${series.name}: ${series.tips[point]}`, screen.x, screen.y, aloud);
      at = [series, point];
    };
    svg.addEventListener("pointermove", (event) => {
      const here = new DOMPoint(event.clientX, event.clientY)
        .matrixTransform(svg.getScreenCTM().inverse());
      const variant = variantOf(chart);
      let best = null;
      let least = 30;
      for (const series of chart.series.filter(shown)) {
        pointsOf(chart, series, variant).forEach(([x, y], i) => {
          const far = Math.hypot(x - here.x, y - here.y);
          if (far < least) [least, best] = [far, [series, i]];
        });
      }
      if (best) mark(best[0], best[1], false);
      else hide();
    });
    svg.addEventListener("pointerleave", hide);
    frame.addEventListener("blur", hide);
    frame.addEventListener("keydown", (event) => {
      const open = chart.series.filter(shown);
      if (event.key === "Escape") return hide();
      if (!open.length || !/^(Arrow|Home$|End$)/.test(event.key)) return undefined;
      event.preventDefault();
      let series = at && shown(at[0]) ? at[0] : open[0];
      let point = at ? at[1] : 0;
      const turn = (step) => open[(open.indexOf(series) + step + open.length) % open.length];
      if (at && event.key === "ArrowRight") point += 1;
      if (at && event.key === "ArrowLeft") point -= 1;
      if (at && event.key === "ArrowUp") series = turn(-1);
      if (at && event.key === "ArrowDown") series = turn(1);
      if (event.key === "Home") point = 0;
      if (event.key === "End") point = Infinity;
      return mark(series, Math.min(Math.max(point, 0), series.x.length - 1), true);
    });
  };
  const walkParts = (frame) => {
    let at = -1;
    const parts = () => all(".tip", frame).filter((part) => part.getClientRects().length);
    frame.addEventListener("keydown", (event) => {
      const open = parts();
      if (event.key === "Escape") return hide();
      if (!open.length || !/^Arrow/.test(event.key)) return undefined;
      event.preventDefault();
      const step = event.key === "ArrowRight" || event.key === "ArrowDown" ? 1 : -1;
      at = (Math.min(at, open.length - 1) + step + open.length) % open.length;
      hide();
      open[at].classList.add("at");
      const box = open[at].getBoundingClientRect();
      return show(open[at].dataset.tip, box.left + box.width / 2, box.bottom, true);
    });
    frame.addEventListener("blur", hide);
    for (const part of all(".tip", frame)) {
      part.addEventListener("pointermove", (event) => {
        show(part.dataset.tip, event.clientX, event.clientY, false);
      });
      part.addEventListener("pointerleave", hide);
    }
  };
  // The browser would show an SVG's title wherever the pointer rests: keep it as its name alone.
  for (const svg of all(".chart svg")) {
    const title = svg.querySelector("title");
    svg.setAttribute("aria-label", title.textContent);
    svg.setAttribute("aria-describedby", svg.querySelector("desc").id);
    svg.removeAttribute("aria-labelledby");
    title.remove();
  }
  const known = new Set(data.charts.map((chart) => `${chart.id}-chart`));
  data.charts.forEach(walkPoints);
  all(".chart").filter((frame) => !known.has(frame.id)).forEach(walkParts);
  apply();
})();
