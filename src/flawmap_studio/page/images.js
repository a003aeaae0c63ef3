// Images: bring them in, say what they are, and see what a check found.
import { action } from "/page/action.js";
import { announce, choice, fill, h, keys, nameOf, plural, problemBox } from "/page/elements.js";
import { Grid } from "/page/grid.js";
import { groupOf, images, loadImages, nameCamera, say } from "/page/image_store.js";
import { jobs } from "/page/jobs.js";
import { pictureOf } from "/page/server.js";
import { filesOfDrop, filesOfInput, uploadAll } from "/page/uploads.js";

const KINDS = [
  { value: "good", title: "Good parts, to learn from", hint: "the model learns what these have in common", into: "good", use: "learn", label: "good" },
  { value: "test", title: "Images to test", hint: "good or not, nobody needs to know yet", into: "test", use: "test", label: "" },
  { value: "test-good", title: "Good parts, to test", hint: "they count as false alarms if they are called anomalous", into: "test/good", use: "test", label: "good" },
  { value: "test-defect", title: "Defects, to test", hint: "they count as missed if they are called good", into: "test/defect", use: "test", label: "defect" },
];
const LABELS = { good: "good", defect: "defect", unsure: "unsure", "": "" };
const FILTERS = {
  all: ["All", () => true],
  learn: ["To learn from", (image) => image.use === "learn"],
  test: ["To test", (image) => image.use === "test"],
  good: ["Good", (image) => image.label === "good"],
  defect: ["Defect", (image) => image.label === "defect"],
  unsure: ["Unsure", (image) => image.label === "unsure"],
  none: ["Without label", (image) => image.label === ""],
};

export function show(main) {
  main.className = "full";
  const view = { filter: "all", group: null, search: "", kind: KINDS[0] };
  const grid = new Grid({ label: "Images", badge: (image) => [[image.use === "test" ? "test" : "", LABELS[image.label]].filter(Boolean).join(" · "), image.label], onchange: showSelection, onopen: open });
  const counts = h("p.quiet", { role: "status" });
  const selection = h("div.bar");
  const outcome = h("div", { role: "status" });
  const filters = h("div.bar", { role: "group", "aria-label": "Show" });
  const groups = h("select", { "aria-label": "Group", onchange: () => { view.group = groups.value === "*" ? null : groups.value; list(); } });
  const camera = h("input", { type: "text", maxLength: 64, placeholder: "Camera of this folder", "aria-label": "Camera of this folder", hidden: true, onchange: nameFolder });
  const search = h("input", { type: "search", placeholder: "Name", "aria-label": "Name contains", oninput: () => { view.search = search.value.toLowerCase(); list(); } });
  const nothing = h("div.empty", h("h2", "No images yet"), h("p.quiet", "Drop twenty or more images of good parts. A few hundred are better: they should show what varies in good parts."));
  const check = h("div");
  let checking = null;
  const drop = dropZone();
  const large = h("dialog.card", { "aria-label": "Image", onclick: () => large.close() });

  function dropZone() {
    const files = h("input.chooser", { type: "file", multiple: true, id: "files", onchange: () => send(filesOfInput(files)) });
    const folder = h("input.chooser", { type: "file", webkitdirectory: true, multiple: true, id: "folder-files", onchange: () => send(filesOfInput(folder)) });
    const kinds = KINDS.map((kind) => choice("kind", kind.value, kind.title, kind.hint, kind === view.kind, () => (view.kind = kind)));
    const element = h("details.drop", { open: images.all.length === 0 },
      h("summary", h("strong", "Drop images or folders here"), h("span.quiet", " — they are copied into the studio's folder; nothing leaves this machine")),
      h("fieldset", h("legend", "What are they?"), h("div.kinds", kinds)),
      h("div.bar", files, h("label.button", { htmlFor: "files" }, "Choose files"), folder, h("label.button", { htmlFor: "folder-files" }, "Choose a folder"),
        h("button", { type: "button", onclick: rescan, title: "Look for images that were copied into the folder" }, "Look again")),
      outcome);
    return element;
  }

  async function send(files) {
    if (!files.length) return;
    drop.open = true;
    const bar = h("progress", { max: files.length, value: 0, "aria-label": "Copying" });
    const words = h("p.quiet", "Copying …");
    fill(outcome, words, bar);
    try {
      const { counts: found, problems } = await uploadAll(files, view.kind, (done, total) => {
        bar.value = done;
        words.textContent = `Copying ${done} of ${total}`;
      });
      await loadImages();
      const already = found["there already"] ? `, ${found["there already"]} were there already` : "";
      const text = `${plural(found.added, "image")} added${already}${problems.length ? `, ${plural(problems.length, "file")} left out` : ""}`;
      fill(outcome, h("p", h("strong", text)), problems.length ? h("ul.plain.quiet", problems.slice(0, 20).map(({ path, problem }) => h("li", `${path}: ${problem}`))) : null);
      announce(text);
      if (!problems.length) drop.open = false;
    } catch (error) {
      fill(outcome, problemBox(error));
      await loadImages().catch(() => {});
    }
  }

  async function nameFolder() {
    try {
      await nameCamera(view.group, camera.value.trim());
      announce(camera.value ? `The images in ${view.group || "this folder"} are of camera ${camera.value}` : "No camera");
    } catch (error) {
      fill(outcome, problemBox(error));
      drop.open = true;
      camera.value = images.cameras[view.group] ?? "";
    }
  }

  async function rescan() {
    await loadImages(true);
    announce(`${plural(images.all.length, "image")} found`);
  }

  function matches(image) {
    return FILTERS[view.filter][1](image) && (view.group === null || groupOf(image) === view.group) && (!view.search || image.path.toLowerCase().includes(view.search));
  }

  function list() {
    grid.show(images.all.filter(matches));
    grid.element.hidden = !images.all.length;
    nothing.hidden = Boolean(images.all.length);
    showFilters();
    showSelection();
  }

  function showFilters() {
    fill(filters, Object.entries(FILTERS).map(([name, [title, test]]) => {
      const count = images.all.reduce((sum, image) => sum + test(image), 0);
      return count || name === "all" ? h("button", { type: "button", "aria-pressed": view.filter === name, onclick: () => { view.filter = name; list(); } }, `${title} `, h("span.number", count.toLocaleString("en"))) : null;
    }));
    const names = [...new Set(images.all.map(groupOf))].sort();
    fill(groups, h("option", { value: "*" }, "All folders"), names.map((name) => h("option", { value: name, selected: name === view.group }, name || "(top)")));
    camera.hidden = view.group === null;
    if (document.activeElement !== camera) camera.value = images.cameras[view.group] ?? "";
    counts.textContent = images.all.length ? `${plural(grid.items.length, "image")} shown` : "No images yet";
  }

  function showSelection() {
    const chosen = [...grid.selected];
    const set = (change) => () => mark(change);
    const none = !chosen.length;
    fill(selection,
      h("span.number", none ? "Nothing chosen" : `${plural(chosen.length, "image")} chosen`),
      h("button", { type: "button", disabled: none, onclick: set({ label: "good" }) }, h("kbd", "G"), " Good"),
      h("button", { type: "button", disabled: none, onclick: set({ label: "defect" }) }, h("kbd", "D"), " Defect"),
      h("button", { type: "button", disabled: none, onclick: set({ label: "unsure" }) }, h("kbd", "U"), " Unsure"),
      h("button", { type: "button", disabled: none, onclick: set({ use: "learn" }) }, h("kbd", "L"), " To learn from"),
      h("button", { type: "button", disabled: none, onclick: set({ use: "test" }) }, h("kbd", "T"), " To test"),
      h("button.plain", { type: "button", disabled: !grid.items.length, onclick: () => grid.selectAll() }, "Choose all shown"));
  }

  async function mark(change) {
    const chosen = [...grid.selected];
    if (!chosen.length) return;
    const focused = document.activeElement;
    await say(chosen, change);
    announce(`${plural(chosen.length, "image")}: ${change.label ?? (change.use === "test" ? "to test" : "to learn from")}`);
    if (focused && !focused.isConnected) grid.element.focus();
  }

  function open(image) {
    fill(large, h("div.bar.apart", h("h2", image.path), h("button", { type: "button", onclick: () => large.close() }, "Close")), h("img", { src: pictureOf(image.path), alt: image.path }));
    large.showModal();
  }

  function showCheck() {
    const job = jobs.all.find((one) => one.kind === "check" && one.state !== "running");
    const found = job?.state === "done" ? findings(job.answer) : null;
    fill(check, h("details.card", { open: Boolean(job) },
      h("summary", h("strong", "Check the good images"), h("span.quiet", " — unreadable files, copies, sizes, what may go wrong")),
      (checking = action({ kind: "check", label: "Check", done: showCheck })),
      job?.state === "failed" ? problemBox(job.problem) : null, found));
  }

  const changed = () => {
    list();
    checking.refresh();
  };
  images.addEventListener("change", changed);
  const removeKeys = keys({ g: () => mark({ label: "good" }), d: () => mark({ label: "defect" }), u: () => mark({ label: "unsure" }), l: () => mark({ use: "learn" }), t: () => mark({ use: "test" }) });
  const over = (event) => { event.preventDefault(); main.classList.add("over"); drop.open = true; };
  const out = (event) => { if (!main.contains(event.relatedTarget)) main.classList.remove("over"); };
  const dropped = async (event) => { event.preventDefault(); main.classList.remove("over"); send(await filesOfDrop(event.dataTransfer)); };
  main.addEventListener("dragover", over);
  main.addEventListener("dragleave", out);
  main.addEventListener("drop", dropped);

  fill(main, drop, check, h("div.bar.apart", filters, h("div.bar", groups, camera, search)), h("div.bar.apart", selection, counts), grid.element, nothing, large);
  list();
  showCheck();
  return () => {
    images.removeEventListener("change", changed);
    removeKeys();
    grid.sizes.disconnect();
    main.removeEventListener("dragover", over);
    main.removeEventListener("dragleave", out);
    main.removeEventListener("drop", dropped);
    main.classList.remove("over");
  };
}

function findings(report) {
  if (!report) return null;
  const lines = [
    `${plural(report.good_images, "good image")}; ${report.distinct_sizes === 1 ? `all ${Object.keys(report.sizes)[0]} px` : `${report.distinct_sizes} different sizes`}`,
    report.identical_images ? `${plural(report.identical_images, "image")} repeat another one and count once, first: ${report.first_identical}` : null,
    report.few, report.detail_lost, report.nearly_black, report.ungrouped, report.groups,
    ...report.skipped.map((file) => `${nameOf(file.key)} cannot be decoded: ${file.reason}`),
    ...report.file_remarks.map((remark) => `${nameOf(remark.key ?? remark.file ?? "")}: ${remark.text}`),
    report.test_files_compared ? `${plural(report.test_files_compared, "test image")} share no content with them` : null,
  ];
  return h("ul.plain", { "aria-label": "What the check found" }, lines.filter(Boolean).map((line) => h("li", line)));
}
