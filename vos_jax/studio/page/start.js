// The first page: which video, or which project.
import * as api from './api.js';

const $ = (id) => document.getElementById(id);

export class Start {
  // `onOpen()` is called once a video is open; `onError(error)` with what went wrong.
  constructor(onOpen, onError) {
    this.onOpen = onOpen;
    this.onError = onError;
    this.isBusy = false;
    $('choose').onclick = () => $('file').click();
    $('file').onchange = () => $('file').files.length && this.take($('file').files[0]);
    const drop = $('drop');
    for (const name of ['dragover', 'drop']) document.addEventListener(name, (event) => event.preventDefault());
    document.addEventListener('dragover', () => drop.classList.add('over'));
    document.addEventListener('dragleave', () => drop.classList.remove('over'));
    document.addEventListener('drop', (event) => {
      drop.classList.remove('over');
      const file = event.dataTransfer?.files[0];
      if (file && !$('start').hidden) this.take(file);
    });
  }

  async show() {
    const library = this.library = await api.get('library');
    $('limit').textContent = `MP4, MOV, WebM, GIF and others, up to ${size(library.max_upload_bytes)}. It stays on this machine, in ${library.folder}.`;
    this.list('projects', 'recent', library.projects, (project) => ({ project }));
    this.list('videos', 'there', library.videos, (video) => ({ video }));
    $('start').hidden = false;
    $('choose').focus();
  }

  list(id, section, names, request) {
    $(section).hidden = !names.length;
    $(id).replaceChildren(...names.map((name) => {
      const item = document.createElement('li'), button = document.createElement('button');
      button.textContent = name;
      button.onclick = () => this.open(request(name));
      item.append(button);
      return item;
    }));
  }

  async open(request) {
    if (this.isBusy) return;
    this.isBusy = true;
    try {
      await api.send('POST', 'open', request);
      await this.onOpen();
    } catch (error) {
      this.onError(error);
    } finally {
      this.isBusy = false;
    }
  }

  async take(file) {
    if (this.isBusy) return;
    if (file.size > this.library.max_upload_bytes) {
      this.onError(new Error(`${file.name}: larger than ${size(this.library.max_upload_bytes)}; start the studio with it: vos-studio VIDEO`));
      return;
    }
    const bar = $('upload');
    bar.value = 0;
    bar.hidden = false;
    this.isBusy = true;
    let video;
    try {
      video = await api.upload(file, (share) => { bar.value = share; });
    } catch (error) {
      this.onError(error);
      return;
    } finally {
      bar.hidden = true;
      $('file').value = '';
      this.isBusy = false;
    }
    await this.open({ video });
  }
}

function size(bytes) { return bytes >= 2 ** 30 ? `${Math.round(bytes / 2 ** 30 * 10) / 10} GB` : `${Math.round(bytes / 2 ** 20)} MB`; }
