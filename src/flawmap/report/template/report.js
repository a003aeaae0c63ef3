(() => {
  "use strict";
  const element = (id) => document.getElementById(id);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
  document.querySelectorAll("[data-needs-script]:not(.slider, button)").forEach((one) => { one.hidden = false; });

  // J and K go through the pictures, as in mail and news readers.
  const cases = [...document.querySelectorAll(".case")];
  let current = -1;
  addEventListener("keydown", (event) => {
    const step = { j: 1, k: -1 }[event.key.toLowerCase()];
    if (!step || event.ctrlKey || event.metaKey || event.altKey || !cases.length) return;
    const focused = cases.findIndex((one) => one.contains(document.activeElement));
    if (focused >= 0) current = focused;
    current = Math.min(cases.length - 1, Math.max(0, current + step));
    cases[current].focus({ preventScroll: true });
    cases[current].scrollIntoView({ block: "start", behavior: "instant" });
  });

  const source = element("scores-data");
  if (!source) return;

  const data = JSON.parse(source.textContent);
  const slider = element("threshold-slider");
  const steps = Number(slider.max);
  const percent = (n, total) => (100 * n / total).toFixed(1) + " %";
  const words = (n, total) => n + " of " + total + " (" + percent(n, total) + ")";

  // The slider has whole steps for the keyboard's sake; the threshold itself is kept apart, so that the calibrated
  // one is shown exactly until the slider is moved.
  function show(threshold) {
    const share = Math.min(1, Math.max(0, (threshold - data.low) / (data.high - data.low)));
    const x = data.left + share * (data.right - data.left);
    element("threshold-line").setAttribute("x1", x);
    element("threshold-line").setAttribute("x2", x);
    element("threshold-shade").setAttribute("x", x);
    element("threshold-shade").setAttribute("width", data.right - x);
    const missed = data.anomalous.filter((score) => !(score > threshold)).length;
    const alarms = data.good.filter((score) => score > threshold).length;
    if (data.anomalous.length) element("live-missed").textContent = words(missed, data.anomalous.length);
    if (data.good.length) element("live-false-alarms").textContent = words(alarms, data.good.length);
    element("live-threshold").textContent = threshold.toPrecision(4);
    slider.value = Math.round(share * steps);
    slider.setAttribute("aria-valuetext", "threshold " + threshold.toPrecision(4) + ": " + missed + " missed, " + alarms + " false alarms");
  }

  slider.addEventListener("input", () => show(data.low + (data.high - data.low) * slider.value / steps));
  element("threshold-reset").addEventListener("click", () => show(data.threshold));
  const fromAddress = () => {
    const asked = parseFloat((/[#&]threshold=([^&]+)/.exec(location.hash) || [])[1]);
    show(Number.isFinite(asked) ? asked : data.threshold);
  };
  addEventListener("hashchange", () => { if (location.hash.includes("threshold=")) fromAddress(); });
  fromAddress();
  document.querySelectorAll("[data-needs-script]").forEach((one) => { one.hidden = false; });
})();
