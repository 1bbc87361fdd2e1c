// Elements by id, and elements made of text; nothing is ever parsed as markup.

export const byId = (id) => document.getElementById(id);

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function setText(element, text) {
  // Writing the same text again would make a screen reader say it again.
  if (element.textContent !== text) element.textContent = text;
}
