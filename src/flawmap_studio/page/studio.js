// The frame: who enters, the pages, and what they share.
import { announce, fill, h, problemBox } from "/page/elements.js";
import { images, loadImages } from "/page/image_store.js";
import { jobEvents, look } from "/page/jobs.js";
import { enter, get } from "/page/server.js";

const PAGES = {
  images: "Images", region: "Region", train: "Train", result: "Result", review: "Review", models: "Models",
};
const main = document.getElementById("main");
let leave = () => {};
let shown = 0;

function currentPage() {
  const [name, wanted = ""] = location.hash.slice(1).split("/");
  return { name: name in PAGES ? name : "images", wanted: decodeURIComponent(wanted) };
}

async function showPage() {
  const { name, wanted } = currentPage();
  const number = ++shown;
  leave();
  leave = () => {};
  showNavigation();
  document.title = `${PAGES[name]} · flawmap studio`;
  try {
    const page = await import(`/page/${name}.js`);
    if (number !== shown) return;
    main.className = "";
    fill(main);
    leave = (await page.show(main, wanted)) ?? (() => {});
    announce(PAGES[name]);
  } catch (error) {
    fill(main, problemBox(error));
  }
}

function showNavigation() {
  const { name } = currentPage();
  const count = images.all.length ? images.all.length.toLocaleString("en") : "";
  const links = Object.entries(PAGES).map(([page, title]) =>
    h("li", h("a", { href: `#${page}`, "aria-current": page === name ? "page" : null }, title,
      page === "images" && count ? h("span.count", count) : null)));
  fill(document.getElementById("pages"), h("ol", links));
}

function toTop() {
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
  main.scrollTop = 0;
}

async function begin() {
  try {
    await enter();
    const folder = document.getElementById("folder");
    images.addEventListener("change", showNavigation);
    await loadImages();
    folder.textContent = `\u200e${images.folder}`;
    window.addEventListener("hashchange", () => showPage().then(toTop));
    await showPage();
    await look();
  } catch (error) {
    fill(main, problemBox(error), error.status === 401 ? h("p.quiet", "The address with the token is valid until the studio is stopped. Each start prints a new one.") : null);
  }
}

jobEvents.addEventListener("end", (event) => {
  if (["train", "update", "undo", "calibrate", "test"].includes(event.detail.kind)) get("/api/models").then((found) => (images.latest = found.latest));
});
begin();
