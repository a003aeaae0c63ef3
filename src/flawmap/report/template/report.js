(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((element) => { element.open = true; }));
  document.querySelectorAll("[data-needs-script]:not(.slider, button)").forEach((element) => { element.hidden = false; });

  // J and K step through the images, as in mail readers.
  const cases = [...document.querySelectorAll(".case")];
  let current = -1;
  addEventListener("keydown", (event) => {
    const step = { j: 1, k: -1 }[event.key.toLowerCase()];
    if (!step || event.ctrlKey || event.metaKey || event.altKey || !cases.length) return;
    const focused = cases.findIndex((element) => element.contains(document.activeElement));
    if (focused >= 0) current = focused;
    current = Math.min(cases.length - 1, Math.max(0, current + step));
    cases[current].focus({ preventScroll: true });
    cases[current].scrollIntoView({ block: "start", behavior: "instant" });
  });

  const source = byId("scores-data");
  if (!source) return;

  const data = JSON.parse(source.textContent);
  const slider = byId("threshold-slider");
  const steps = Number(slider.max);
  const percent = (n, total) => (100 * n / total).toFixed(1) + " %";
  const words = (n, total) => n + " of " + total + " (" + percent(n, total) + ")";

  // The slider has whole steps for the keyboard. The threshold is kept separately, so that the calibrated one is exact
  // until the slider is moved.
  function show(threshold) {
    const share = Math.min(1, Math.max(0, (threshold - data.low) / (data.high - data.low)));
    const x = data.left + share * (data.right - data.left);
    byId("threshold-line").setAttribute("x1", x);
    byId("threshold-line").setAttribute("x2", x);
    byId("threshold-shade").setAttribute("x", x);
    byId("threshold-shade").setAttribute("width", data.right - x);
    const missed = data.anomalous.filter((score) => !(score > threshold)).length;
    const alarms = data.good.filter((score) => score > threshold).length;
    if (data.anomalous.length) byId("live-missed").textContent = words(missed, data.anomalous.length);
    if (data.good.length) byId("live-false-alarms").textContent = words(alarms, data.good.length);
    byId("live-threshold").textContent = threshold.toPrecision(4);
    slider.value = Math.round(share * steps);
    slider.setAttribute("aria-valuetext", "threshold " + threshold.toPrecision(4) + ": " + missed + " missed, " + alarms + " false alarms");
  }

  slider.addEventListener("input", () => show(data.low + (data.high - data.low) * slider.value / steps));
  byId("threshold-reset").addEventListener("click", () => show(data.threshold));
  const fromAddress = () => {
    const asked = parseFloat((/[#&]threshold=([^&]+)/.exec(location.hash) || [])[1]);
    show(Number.isFinite(asked) ? asked : data.threshold);
  };
  addEventListener("hashchange", () => { if (location.hash.includes("threshold=")) fromAddress(); });
  fromAddress();
  document.querySelectorAll("[data-needs-script]").forEach((element) => { element.hidden = false; });
})();
