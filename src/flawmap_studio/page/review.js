// Review: the closest calls first. What people say becomes a label, and what they call good can be learned.
import { action } from "/page/action.js";
import { announce, fill, h, keys, nameOf, plural, problemBox } from "/page/elements.js";
import { loadImages } from "/page/image_store.js";
import { get, overlayOf, pictureOf, post, remove, thumbnailOf } from "/page/server.js";

const TRUTHS = [["good", "G", "Good"], ["defect", "D", "Defect"], ["unsure", "U", "Unsure"]];

export async function show(main, wanted) {
  const { results } = await get("/api/results");
  if (!results.length) return void fill(main, h("div.empty", h("h2", "Nothing to review"), h("p.quiet", "Test a model first: its closest calls appear here."), h("p", h("a", { href: "#result" }, "To Result"))));
  main.className = "full";
  const name = results.find((one) => one.name === wanted)?.name ?? results[0].name;
  const found = await get("/api/result", { name });
  const run = found.run.split("/").at(-1);
  const distance = (image) => Math.abs(image.score - (image.threshold ?? 0));
  const queue = found.images.filter((image) => image.is_there).toSorted((a, b) => distance(a) - distance(b));
  const state = { at: Math.max(0, queue.findIndex((image) => !image.review)), original: false };
  const title = h("h2"), verdict = h("p", { role: "status" }), picture = h("img", { alt: "" });
  const count = h("p", { role: "status" }), answers = h("div.bar", { role: "group", "aria-label": "What is it?" });
  const strip = h("div.queue", { role: "group", "aria-label": "Queue, closest to the threshold first" });
  const trouble = h("div");
  const note = h("input", { type: "text", maxLength: 500, placeholder: "optional", "aria-label": "Note" });
  const toggle = h("button", { type: "button", onclick: flip }, h("kbd", "O"), " Original");
  const learn = [
    action({ kind: "update", label: "Try it", wish: () => ({ run, dry_run: true }), done: (job) => tell(job) }),
    action({ kind: "update", label: "Add to good images", isPrimary: true, wish: () => ({ run }), done: (job) => tell(job) }),
    action({ kind: "calibrate", label: "Calibrate with reviews", wish: () => ({ run, source: "reviews" }), done: (job) => tell(job) }),
  ];
  const told = h("div", { role: "status" });

  function flip() {
    state.original = !state.original;
    draw();
  }

  function draw() {
    const image = queue[state.at];
    const done = queue.filter((one) => one.review).length;
    count.textContent = `${done} of ${queue.length} reviewed`;
    if (!image) return;
    title.textContent = image.path;
    picture.src = state.original || !image.has_overlay ? pictureOf(image.path) : overlayOf(name, image.path);
    picture.alt = `${image.path}: ${image.is_anomalous ? "anomaly" : "ok"}`;
    toggle.setAttribute("aria-pressed", state.original);
    fill(verdict, h(image.is_anomalous ? "span.badge.anomaly" : "span.badge.ok", image.is_anomalous ? "anomaly" : "ok"), ` score ${image.score.toFixed(3)}`,
      image.threshold === null ? null : `, ${distance(image).toFixed(3)} ${image.score > image.threshold ? "above" : "below"} the threshold`);
    note.value = image.review?.note ?? "";
    fill(answers, TRUTHS.map(([truth, key, text]) => h("button", { type: "button", "aria-pressed": image.review?.truth === truth, onclick: () => answer(truth) }, h("kbd", key), ` ${text}`)));
    fill(strip, queue.map((one, index) => {
      const button = h(one.review ? "button.answered" : "button", { type: "button", title: one.path, "aria-label": `${nameOf(one.path)}${one.review ? `, ${one.review.truth}` : ""}`, "aria-current": index === state.at ? "true" : null, onclick: () => go(index) },
        h("img", { src: thumbnailOf(one), alt: "", loading: "lazy" }));
      return button;
    }));
    strip.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  function go(index) {
    state.at = Math.max(0, Math.min(queue.length - 1, index));
    draw();
  }

  async function answer(truth) {
    const image = queue[state.at];
    if (!image) return;
    if (!picture.complete) return announce("The picture is still loading"); // nobody judges what is not there yet
    try {
      await post("/api/reviews", { result: name, path: image.path, truth, note: note.value });
      image.review = { truth, note: note.value };
      announce(`${nameOf(image.path)}: ${truth}`);
      const next = queue.findIndex((one, index) => index > state.at && !one.review);
      go(next < 0 ? queue.findIndex((one) => !one.review) < 0 ? state.at : queue.findIndex((one) => !one.review) : next);
      changed();
    } catch (error) {
      fill(trouble, problemBox(error));
    }
  }

  async function undo() {
    const { path } = await remove("/api/reviews", { result: name });
    if (path === null) return announce("Nothing to undo");
    const index = queue.findIndex((image) => image.path === path);
    if (index >= 0) queue[index].review = (await get("/api/result", { name })).images.find((image) => image.path === path)?.review ?? null;
    announce(`${nameOf(path)}: taken back`);
    go(index);
    changed();
  }

  function changed() {
    fill(trouble);
    loadImages();
    for (const one of learn) one.refresh();
  }

  function tell(job) {
    if (job.state !== "done" || !job.answer) return;
    const { before, after, version, n_new: learned } = job.answer;
    if (!before) return fill(told, h("div.advice", h("p", `The threshold is now ${job.answer.threshold?.toFixed(3) ?? "none"}.`)));
    const number = (value) => (value === null ? "none" : value.toFixed(3));
    const row = (what, side) => h("tr", h("td", what), side.map((value) => h("td.right", value)));
    fill(told, h("h3", version ? `Learned: ${version}` : "This would change"), h("table", h("tbody",
      h("tr", h("th", ""), h("th.right", "before"), h("th.right", "after")),
      row("Threshold", [number(before.threshold), number(after.threshold)]),
      row("Good images above it", [before, after].map((one) => `${one.n_alarms} of ${one.n_good}`)),
      row("New images above it", [before, after].map((one) => `${one.n_new_alarms} of ${one.n_new}`)))),
      h("p.quiet", version ? [`${plural(learned, "image")} learned. `, h("a", { href: "#result" }, "Test again"), " or ", h("a", { href: "#models" }, "undo it in Models"), "."] : "Nothing was kept."));
  }

  const which = h("select", { "aria-label": "Test", onchange: () => (location.hash = `review/${encodeURIComponent(which.value)}`) },
    results.map((one) => h("option", { value: one.name, selected: one.name === name }, `${one.name}, ${new Date(1000 * one.at).toLocaleString()}`)));
  fill(main, h("div.columns",
    h("div.side",
      h("section.card", { "aria-label": "Queue" }, h("h2", "Review"), which, count,
        h("p.quiet", "Images closest to the threshold come first: an answer to them says most."),
        h("p.quiet", h("kbd", "G"), " good · ", h("kbd", "D"), " defect · ", h("kbd", "U"), " unsure · ", h("kbd", "Z"), " undo · ", h("kbd", "J"), " ", h("kbd", "K"), " next, previous · ", h("kbd", "O"), " original")),
      h("section.card", { "aria-label": "Learn from reviews" }, h("h2", "Learn from what you called good"),
        h("p.quiet", "The model takes these images into its memory, without training again. They do not set the threshold, because you chose them; Models can undo it."), learn, told)),
    h("div.viewer.first", trouble, h("div.bar.apart", title, h("div.bar", verdict, toggle)), h("div.stage", picture),
      h("div.bar.apart", h("div.bar", answers, h("button", { type: "button", onclick: undo }, h("kbd", "Z"), " Undo")), h("label.bar", h("span", "Note"), note)), strip)));
  draw();
  return keys({ g: () => answer("good"), d: () => answer("defect"), u: () => answer("unsure"), z: undo, j: () => go(state.at + 1), k: () => go(state.at - 1), o: flip });
}
