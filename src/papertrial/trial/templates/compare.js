// Lay what two arms kept over each other: a divider between them that is dragged on the picture, or moved with the
// slider below it by keyboard; two videos play in step. Everything can be seen without it.
"use strict";

for (const table of document.querySelectorAll("table[data-sheet]")) {
  const words = table.dataset;
  const arms = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent);
  const rows = [...table.tBodies[0].rows];
  const media = (row, arm) => rows[row].cells[arm + 1].querySelector("img, video");
  const full = rows.findIndex((row, at) => arms.filter((name, arm) => media(at, arm)).length > 1);
  if (full < 0) continue; // no seed of which two arms have something to lay over each other
  const shown = arms.map((name, arm) => arm).filter((arm) => media(full, arm));

  const make = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const select = (label, names, chosen) => {
    const made = make("select", {}, ...names.map((name, at) => new Option(name, at, at === chosen, at === chosen)));
    made.setAttribute("aria-label", label);
    made.addEventListener("change", () => draw());
    return made;
  };
  const range = (label, properties) => {
    const made = make("input", { type: "range", ...properties });
    made.setAttribute("aria-label", label);
    return made;
  };

  const seed = select(words.seed, rows.map((row) => row.cells[0].textContent), full);
  const left = select(words.first, arms, shown[0]);
  const right = select(words.second, arms, shown[1]);
  const over = make("div", { className: "over" });
  const divider = range(words.divider, { min: 0, max: 100, step: 1, value: 50 });
  const player = make("div", { className: "choose", hidden: true });
  const box = make("div", { className: "overlay" }, make("div", { className: "choose" }, seed, left, right), over);
  box.append(divider, player);
  const details = make("details", {}, make("summary", { textContent: words.sheet }), box);

  const cut = (percent) => {
    divider.value = percent;
    over.style.setProperty("--cut", `${divider.value}%`);
  };
  const point = (event) => {
    const place = over.getBoundingClientRect();
    cut((100 * (event.clientX - place.left)) / place.width);
  };
  divider.addEventListener("input", () => cut(divider.value));
  over.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    over.setPointerCapture(event.pointerId);
    point(event);
  });
  over.addEventListener("pointermove", (event) => {
    if (over.hasPointerCapture(event.pointerId)) point(event);
  });

  // The first of two videos leads: the other plays, pauses and jumps with it, and is brought back where it strays.
  const inStep = (first, second) => {
    const button = make("button", { type: "button", textContent: words.play });
    const place = range(words.time, { min: 0, max: 1, step: "any", value: 0 });
    const seconds = () => first.duration || 1;
    const follow = () => {
      place.value = first.currentTime / seconds();
      const strayed = Math.abs(second.currentTime - first.currentTime);
      if (strayed > (first.paused ? 0 : 0.05)) second.currentTime = first.currentTime;
      if (!first.paused && second.paused && !second.ended) second.play().catch(() => {});
    };
    button.addEventListener("click", () => (first.paused ? first.play().catch(() => {}) : first.pause()));
    place.addEventListener("input", () => {
      first.currentTime = place.value * seconds();
    });
    first.addEventListener("play", () => (button.textContent = words.pause));
    first.addEventListener("pause", () => {
      button.textContent = words.play;
      second.pause();
      const stopped = first.currentTime;
      first.currentTime = stopped; // settles where it stands, and the other follows there
    });
    for (const event of ["play", "pause", "seeked", "timeupdate"]) first.addEventListener(event, follow);
    player.replaceChildren(button, place);
  };
  const copy = (found) => {
    if (!found) return make("span", {});
    if (found.tagName === "IMG") return make("img", { src: found.src, alt: found.alt, draggable: false });
    const { src, poster } = found;
    const video = make("video", { src, poster, muted: true, playsInline: true, preload: "auto" });
    video.setAttribute("aria-label", found.getAttribute("aria-label"));
    return video;
  };
  const draw = () => {
    const names = [left, right].map((one) => arms[one.value]);
    const copies = [left, right].map((one) => copy(media(Number(seed.value), Number(one.value))));
    const labels = names.map((name) => make("span", { className: "name", textContent: name }));
    over.replaceChildren(...copies, ...labels, make("span", { className: "divider" }));
    player.hidden = copies.some((one) => one.tagName !== "VIDEO");
    if (player.hidden) return;
    copies[0].loop = true;
    inStep(...copies);
  };
  details.addEventListener("toggle", () => (details.open ? draw() : over.replaceChildren()));
  table.closest(".box").after(details);
}
