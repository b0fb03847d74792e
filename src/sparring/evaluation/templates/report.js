"use strict";
const root = document.documentElement;

const theme = document.getElementById("theme");
const night = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (root.dataset.theme || (night.matches ? "dark" : "light")) === "dark";
const name = () => { theme.textContent = dark() ? "Light" : "Dark"; };
theme.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
night.addEventListener("change", name);
theme.hidden = false;
name();

const readout = document.querySelector(".readout");
for (const svg of document.querySelectorAll("svg[data-points]")) {
  const points = svg.dataset.points.split(" ").filter(Boolean).map((point) => point.split(","));
  const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
  cursor.setAttribute("class", "cursor");
  svg.addEventListener("pointermove", (event) => {
    const frame = svg.getBoundingClientRect();
    const x = (event.clientX - frame.left) / frame.width * svg.viewBox.baseVal.width;
    const at = points.filter((point) => Number(point[0]) <= x).pop() || points[0];
    if (!at) return;
    for (const [key, value] of Object.entries({ x1: at[0], x2: at[0], y1: 16, y2: svg.viewBox.baseVal.height - 44 })) cursor.setAttribute(key, value);
    svg.append(cursor);
    readout.textContent = `At ${at[3]}: ${Number(at[2]).toFixed(1)}\u202f% still right.`;
  });
  svg.addEventListener("pointerleave", () => { cursor.remove(); readout.textContent = ""; });
}

for (const changed of document.querySelectorAll(".changed")) {
  const picture = changed.querySelector("img"), words = changed.querySelector("span");
  const after = picture.src, before = changed.parentElement.querySelector("img").src;
  const show = (clean) => { picture.src = clean ? before : after; words.textContent = clean ? "clean" : "changed"; };
  changed.tabIndex = 0;
  changed.setAttribute("role", "button");
  changed.addEventListener("pointerdown", () => show(true));
  for (const end of ["pointerup", "pointerleave", "pointercancel", "blur"]) changed.addEventListener(end, () => show(false));
  changed.addEventListener("keydown", (event) => { if (event.key === " " || event.key === "Enter") { event.preventDefault(); show(true); } });
  changed.addEventListener("keyup", () => show(false));
}
for (const hint of document.querySelectorAll(".hint")) hint.hidden = false;

addEventListener("beforeprint", () => { for (const details of document.querySelectorAll("details:not(.quiet)")) details.open = true; });
