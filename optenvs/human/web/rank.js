"use strict";
// The page works without this: keys in place of clicks, and the second half of a double click is not sent.
let sent = false;

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
