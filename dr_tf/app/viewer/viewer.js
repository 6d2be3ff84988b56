// A photograph beside the photograph with its map. Both zoom and move together, by pointer and by keyboard.
const STEP = 1.5, MOST = 8, MOVE = 40;

export default function (component) {
  const root = component.parentElement.querySelector(".viewer");
  const { photograph, map, gradient, texts } = component.data;
  const input = root.querySelector("input");
  root.querySelectorAll("[data-text]").forEach((one) => (one.textContent = texts[one.dataset.text]));
  root.querySelectorAll("[data-zoom]").forEach((one) => {
    one.title = texts[one.dataset.zoom];
    one.setAttribute("aria-label", texts[one.dataset.zoom]);
    one.onclick = () => act(one.dataset.zoom);
  });
  root.querySelector(".scale i").style.background = `linear-gradient(to right, ${gradient.join(", ")}), #96492a`;
  root.querySelector(".legend").textContent = texts.legend;
  root.querySelectorAll(".controls label, .scale").forEach((one) => (one.hidden = !map));

  const panes = root.querySelector(".panes");
  const windows = [[texts.photograph, false], [texts.overlay, true]].filter(([, isMap]) => !isMap || map).map(pane);
  panes.replaceChildren(...windows.map((one) => one.parentElement));
  const view = root.view ?? (root.view = { scale: 1, x: 0, y: 0 });
  input.oninput = draw;
  draw();

  function pane([title, hasMap]) {
    const figure = document.createElement("figure");
    figure.className = "pane";
    const box = document.createElement("div");
    box.className = "window";
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `${title}. ${texts.keys}`);
    const stack = document.createElement("div");
    stack.className = "stack";
    for (const source of hasMap ? [photograph, map] : [photograph]) {
      const image = document.createElement("img");
      image.src = source;
      image.alt = source === map ? texts.map : title;
      image.draggable = false;
      stack.append(image);
    }
    const caption = document.createElement("figcaption");
    caption.textContent = title;
    box.append(stack);
    figure.append(box, caption);
    listen(box);
    return box;
  }

  function listen(box) {
    let held = null;
    box.onkeydown = (event) => {
      const moves = { ArrowLeft: [MOVE, 0], ArrowRight: [-MOVE, 0], ArrowUp: [0, MOVE], ArrowDown: [0, -MOVE] };
      const zooms = { "+": "in", "=": "in", "-": "out", 0: "reset" };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in zooms) act(zooms[event.key]);
      else if (event.key in moves && view.scale > 1) move(...moves[event.key]);
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
    box.ondblclick = (event) => {
      const place = box.getBoundingClientRect();
      zoom(view.scale > 1 ? 1 / view.scale : 3, event.clientX - place.left, event.clientY - place.top);
    };
    box.onpointerdown = (event) => {
      if (view.scale === 1) return;
      held = [event.clientX, event.clientY];
      box.setPointerCapture(event.pointerId);
    };
    box.onpointermove = (event) => {
      if (!held) return;
      move(event.clientX - held[0], event.clientY - held[1]);
      held = [event.clientX, event.clientY];
    };
    box.onpointerup = box.onpointercancel = () => (held = null);
  }

  function act(name) {
    if (name === "reset") Object.assign(view, { scale: 1, x: 0, y: 0 });
    else return zoom(name === "in" ? STEP : 1 / STEP, windows[0].clientWidth / 2, windows[0].clientHeight / 2);
    draw();
  }

  function zoom(factor, x, y) {
    const before = view.scale;
    view.scale = Math.min(MOST, Math.max(1, before * factor));
    view.x = x - ((x - view.x) * view.scale) / before;
    view.y = y - ((y - view.y) * view.scale) / before;
    draw();
  }

  function move(x, y) {
    view.x += x;
    view.y += y;
    draw();
  }

  function draw() {
    const [width, height] = [windows[0].clientWidth, windows[0].clientHeight];
    view.x = Math.min(0, Math.max(width * (1 - view.scale), view.x));
    view.y = Math.min(0, Math.max(height * (1 - view.scale), view.y));
    for (const box of windows) {
      box.classList.toggle("zoomed", view.scale > 1);
      box.firstChild.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
      const layer = box.querySelector("img + img");
      if (layer) layer.style.opacity = input.value / 100;
    }
  }
}
