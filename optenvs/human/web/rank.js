"use strict";
// The page works without this. It adds keys, and sees to it that a double click is one click: its second half is
// not sent, and where a new round has come up under the pointer meanwhile, it falls on nothing.
const PAUSE = 400; // milliseconds
let sent = false;

const round = document.body.dataset.round;
if (sessionStorage.getItem("round") !== round) {
  sessionStorage.setItem("round", round);
  document.body.classList.add("busy");
  setTimeout(() => sent || document.body.classList.remove("busy"), PAUSE);
}

document.addEventListener("submit", (event) => {
  if (sent) {
    event.preventDefault();
    return;
  }
  sent = true;
  document.body.classList.add("busy");
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const keys = { n: "#none", Backspace: "#undo-click" };
  const digit = "123456789".indexOf(event.key);
  const button = event.key in keys
    ? document.querySelector(keys[event.key])
    : digit >= 0 ? document.querySelectorAll("#pictures button")[digit] : null;
  if (button && !button.disabled) {
    event.preventDefault();
    button.click();
  }
});

// a page out of the browser's memory shows what held once
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});
