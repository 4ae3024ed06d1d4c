// SPDX-License-Identifier: MIT

// promises.js LEASE JOB: see test_languages.py; with node's promises.

const fs = require('fs/promises');

// Print what comes, and answer when the first line is there.
async function show(file) {
    const data = Buffer.alloc(4096);
    let all = '';
    for (;;) {
        const { bytesRead } = await file.read(data, 0, data.length, null);
        if (!bytesRead)
            break;
        all += data.toString('utf8', 0, bytesRead);
        if (all === 'one\n')
            await fs.writeFile('ctl', 'signal USR1\n');
    }
    await file.close();
    process.stdout.write(all);
}

async function main() {
    process.chdir(process.argv[2]);
    await fs.writeFile('cmd', process.argv[3]);
    await show(await fs.open('output'));
    process.stdout.write(await fs.readFile('exit_code', 'utf8'));

    const file = await fs.open('cmd', 'r+');
    await file.write('echo a');
    await file.write('b');
    await show(file);

    await fs.writeFile('timeout', '0.2\n');
    await fs.writeFile('cmd', 'sleep 1000');
    process.stdout.write(await fs.readFile('exit_code', 'utf8'));
}

main();
