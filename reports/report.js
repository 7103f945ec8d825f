// Draws the charts, in page order, in the reader's colours and on the chosen step axis.
(() => {
  const { config, dark, ticks, charts } = JSON.parse(document.getElementById("data").textContent);
  const night = window.matchMedia("(prefers-color-scheme: dark)");
  const form = document.querySelector("form.axis");
  const filter = document.querySelector("form.filter");
  const first = Math.max(1, ticks.find((tick) => tick > 0) || 1);
  let round = 0;

  const coloured = (text) =>
    night.matches ? text.replace(/#[0-9a-f]{6}/g, (colour) => dark[colour] || colour) : text;

  // The logarithm starts at the first checkpoint, so that step 0 has a place.
  function setStepAxis(node, logarithmic) {
    if (node === null || typeof node !== "object") return;
    if (node.field === "step" && node.type === "quantitative" && logarithmic && !node.format) {
      node.scale = { type: "symlog", constant: first };
      node.axis = { ...node.axis, values: ticks };
    }
    for (const [key, child] of Object.entries(node)) if (key !== "data") setStepAxis(child, logarithmic);
  }

  async function draw() {
    const mine = ++round;
    document.body.dataset.charts = "drawing";
    for (const line of document.querySelectorAll("[data-colour]"))
      line.setAttribute("stroke", coloured(line.dataset.colour));
    const logarithmic = form.elements.axis.value === "log";
    for (const [id, chart] of Object.entries(charts)) {
      const spec = JSON.parse(coloured(JSON.stringify(chart)));
      setStepAxis(spec, logarithmic);
      await vegaEmbed(document.getElementById(id), spec, {
        mode: "vega-lite",
        renderer: "svg",
        config: JSON.parse(coloured(JSON.stringify(config))),
        tooltip: { theme: night.matches ? "dark" : "light" },
        actions: { export: true, source: false, compiled: false, editor: false },
        downloadFileName: id,
      });
      // A later call (other axis, other colours) takes over; pauses keep the page responsive.
      await new Promise((next) => setTimeout(next));
      if (mine !== round) return;
    }
    document.body.dataset.charts = "ready";
  }

  function choose() {
    const { series, window: checkpoints, family } = filter.elements;
    for (const row of filter.parentElement.querySelectorAll("tr.row"))
      row.hidden =
        row.dataset.series !== series.value ||
        row.dataset.window !== checkpoints.value ||
        row.dataset.family !== family.value;
    filter.parentElement.classList.add("filtered");
  }

  form.hidden = false;
  form.addEventListener("change", draw);
  night.addEventListener("change", draw);
  if (filter) {
    filter.hidden = false;
    filter.addEventListener("change", choose);
    choose();
  }
  draw();
})();
