// The objects: names, colours, which one is being painted.

const $ = (id) => document.getElementById(id);

export class Objects {
  // `onChange()` stores the list and may be awaited; `onRemoved()` shows masks without a removed object.
  constructor(painter, onChange, onRemoved) {
    Object.assign(this, { painter, onChange, onRemoved });
    this.list = [];
    this.colours = [];
    $('add').onclick = () => this.add();
  }

  // A project's objects, and the colours that new ones get in turn.
  take(list, colours) {
    this.list = list;
    this.colours = colours;
    this.painter.setColours(list);
    this.choose(list.some((one) => one.id === this.painter.id) ? this.painter.id : list[0]?.id ?? 1);
  }

  chosen() { return this.list.find((one) => one.id === this.painter.id); }

  choose(id) {
    this.painter.id = id;
    this.draw();
  }

  chooseAt(index) {
    if (this.list[index]) this.choose(this.list[index].id);
  }

  add() {
    if (this.list.length >= 60) return;
    const ids = this.list.map((one) => one.id);
    let id = 1;
    while (ids.includes(id)) id++;  // a removed one is in no mask any more
    const used = this.list.map((one) => one.colour), free = this.colours.find((colour) => !used.includes(colour));
    this.list.push({ id, name: `Object ${id}`, colour: free ?? this.colours[(id - 1) % this.colours.length] });
    this.changed();
    this.choose(id);
    $('objects').lastElementChild?.scrollIntoView({ block: 'nearest' });
  }

  async remove(one) {
    if (!confirm(`Remove ${one.name} and its masks from all frames?`)) return;
    this.list = this.list.filter((other) => other !== one);
    if (!this.list.length) this.list = [{ id: one.id % 254 + 1, name: `Object ${one.id % 254 + 1}`, colour: this.colours[one.id % this.colours.length] }];
    if (this.painter.id === one.id) this.painter.id = this.list[0].id;
    this.draw();
    await this.onChange();
    await this.onRemoved();
  }

  changed() {
    this.painter.setColours(this.list);
    return this.onChange();
  }

  draw() {
    const box = $('objects'), focused = document.activeElement?.closest?.('#objects') && document.activeElement.type === 'radio';
    box.replaceChildren(...this.list.map((one, index) => this.row(one, index)));
    if (focused) box.querySelector('input:checked')?.focus();
  }

  row(one, index) {
    const item = document.createElement('li'), isChosen = one.id === this.painter.id;
    item.classList.toggle('chosen', isChosen);
    const radio = input(item, 'radio', `Paint ${one.name}`);
    radio.name = 'object';
    radio.checked = isChosen;
    radio.title = index < 9 ? `Paint this object (${index + 1})` : 'Paint this object';
    radio.onchange = () => this.choose(one.id);
    const colour = input(item, 'color', `Colour of ${one.name}`);
    colour.value = one.colour;
    colour.oninput = () => { one.colour = colour.value; this.painter.setColours(this.list); };
    colour.onchange = () => this.changed();
    const name = input(item, 'text', `Name of ${one.name}`);
    name.value = one.name;
    name.maxLength = 60;
    name.onfocus = () => { if (this.painter.id !== one.id) this.mark(one.id); };
    name.onchange = () => { one.name = name.value.trim() || `Object ${one.id}`; name.value = one.name; this.changed(); };
    name.onkeydown = (event) => { if (event.key === 'Enter' || event.key === 'Escape') name.blur(); };
    const remove = document.createElement('button');
    remove.className = 'quiet';
    remove.textContent = '✕';
    remove.title = 'Remove this object';
    remove.setAttribute('aria-label', `Remove ${one.name}`);
    remove.onclick = () => this.remove(one);
    item.append(remove);
    item.onclick = (event) => { if (event.target === item) this.choose(one.id); };
    return item;
  }

  // Chooses without drawing the rows anew: one of them is being typed in.
  mark(id) {
    this.painter.id = id;
    [...$('objects').children].forEach((item, index) => {
      const isChosen = this.list[index].id === id;
      item.classList.toggle('chosen', isChosen);
      item.querySelector('input[type="radio"]').checked = isChosen;
    });
  }

  // Fades the rows of objects that this frame does not show.
  showCounts() {
    const there = new Set(this.painter.labels);
    [...$('objects').children].forEach((item, index) => { item.title = there.has(this.list[index]?.id) ? '' : 'not in this frame'; });
  }
}

function input(parent, type, label) {
  const element = document.createElement('input');
  element.type = type;
  element.setAttribute('aria-label', label);
  parent.append(element);
  return element;
}
