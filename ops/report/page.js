"use strict";
// The page is whole without this: a filter, the hours of a bar under the pointer, and links that unfold what they lead to.
(() => {
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const kept = { get: (key) => { try { return sessionStorage.getItem(key); } catch { return null; } },
    set: (key, value) => { try { sessionStorage.setItem(key, value); } catch { /* a file may have none */ } } };

  const field = document.getElementById("filter");
  const found = document.getElementById("found");
  const lines = all(".line").map((line) => {
    const company = line.closest(".company");
    const state = all(".who .chip", line).map((chip) => chip.textContent).join(" ");
    return { line, company, text: plain([company.querySelector("h3").textContent, line.querySelector("h4").textContent, state].join(" ")) };
  });
  const folds = all(".company, .well");
  const before = new Map(folds.map((fold) => [fold, fold.open]));
  const filter = () => {
    const words = plain(field.value).split(/[\s,]+/).filter(Boolean);
    const hits = lines.filter((each) => words.every((word) => each.text.includes(word)));
    const shown = new Set(hits.map((each) => each.line));
    for (const { line } of lines) line.hidden = !shown.has(line);
    for (const fold of folds) {
      const some = all(".line", fold).some((line) => shown.has(line));
      fold.hidden = !some;
      fold.open = words.length ? some : before.get(fold);
    }
    found.textContent = words.length ? (hits.length === 1 ? "1 linha" : hits.length + " linhas") : "";
    kept.set("filter", field.value);
  };
  if (lines.length) {
    field.closest(".filter").hidden = false;
    field.addEventListener("input", filter);
    field.value = kept.get("filter") || "";
    if (field.value) filter();
  }

  const tip = document.getElementById("tip");
  const states = { u: "no ar", p: "fora do ar por menos de meia hora", d: "fora do ar", n: "sem dados" };
  const zone = { timeZone: "America/Sao_Paulo", hour: "2-digit", minute: "2-digit" };
  const now = Number(document.documentElement.dataset.now);
  document.addEventListener("pointermove", (event) => {
    const bar = event.target instanceof Element && event.target.closest("svg.b");
    tip.hidden = !bar;
    if (!bar) return;
    const box = bar.getBoundingClientRect();
    const hours = bar.viewBox.baseVal.width;
    const hour = Math.min(hours - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * hours)));
    const path = all("path", bar).reverse().find((each) => each.isPointInFill(new DOMPoint(hour + 0.5, 9.5)));
    const from = new Date(now - (hours - hour) * 3600000);
    const until = new Date(now - (hours - hour - 1) * 3600000);
    const day = from.toLocaleDateString("pt-BR", { timeZone: zone.timeZone, day: "2-digit", month: "2-digit" });
    tip.textContent = day + ", " + from.toLocaleTimeString("pt-BR", zone) + " a " + until.toLocaleTimeString("pt-BR", zone) +
      ": " + (path ? states[path.classList[0]] : states.n);
    tip.style.left = Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = (event.clientY + 16 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 8 : event.clientY + 16) + "px";
  });

  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  addEventListener("beforeprint", () => { for (const fold of all("#como ~ details")) fold.open = true; });

  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    for (let at = target && target.parentElement; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
})();
