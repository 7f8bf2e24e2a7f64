// Fetches what is live each second, and puts in what is different.  Without it the page is as it was when it was loaded.
"use strict";

const EVERY = 1000;
const lost = document.getElementById("lost");

async function refresh() {
  const answer = await fetch("/live", { cache: "no-store", signal: AbortSignal.timeout(8000) });
  if (!answer.ok) throw new Error(answer.status);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const after of [...fresh.body.children]) {
    const before = document.getElementById(after.id);
    if (before && before.outerHTML !== after.outerHTML && !isRead(before)) before.replaceWith(after);
  }
  const verdict = document.getElementById("verdict").dataset;
  document.title = verdict.title;
  const icon = document.getElementById("icon");
  const address = "/icon.svg?state=" + verdict.state;
  if (icon.getAttribute("href") !== address) icon.setAttribute("href", address);
}

// Whoever marks something to copy it keeps it.
function isRead(element) {
  const chosen = getSelection();
  return !chosen.isCollapsed && chosen.containsNode(element, true);
}

async function turn() {
  if (!document.hidden) {
    try {
      await refresh();
      lost.hidden = true;
    } catch {
      lost.hidden = false;
    }
  }
  setTimeout(turn, EVERY);
}

for (const button of document.querySelectorAll(".paste button")) {
  if (!navigator.clipboard) break;
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.previousElementSibling.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
setTimeout(turn, EVERY);
