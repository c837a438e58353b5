// What the scripts of pages with figures share: the page's data, and elements whose text is set as text, never as markup.
const DATA = JSON.parse(document.querySelector("#data").textContent);

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function labelled(title, control) {
  const label = element("label", title);
  label.append(control);
  return label;
}
